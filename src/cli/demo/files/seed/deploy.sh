#!/bin/sh
# Production is a folder. What is put there says which revision it is.
set -eu
cp tea "$TARGET/tea.new"
mv "$TARGET/tea.new" "$TARGET/tea"
printf '%s\n' "$ORCH_REVISION" >"$TARGET/version.new"
mv "$TARGET/version.new" "$TARGET/version"
echo "deployed $ORCH_REVISION"
