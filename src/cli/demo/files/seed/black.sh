#!/bin/sh
expect "$(./tea black)" "Black tea: 95 degrees, 4 minutes."
