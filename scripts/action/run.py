"""One step of a GitHub workflow: fetches the program if a version is asked for, runs the command, shows what it found as
annotations (ten of a level at the most) and as the job's summary, and ends as the command does. Needs Python 3 alone."""
import hashlib, json, os, pathlib, platform, re, shlex, shutil, subprocess, sys, tarfile, tempfile, urllib.parse, urllib.request

COMMANDS = ("security-scan", "staging-check")
MOST = 10
LEVELS = {"error": "error", "warning": "warning", "note": "notice", "none": "notice"}
SUMMARY = 900_000


def stop(why):
    print(f"::error title=orch::{escaped(why)}")
    sys.exit(2)


def escaped(text, also=""):
    """A workflow command is a line: what would end it, or a property of it, is written as GitHub reads it back."""
    for char in "%\r\n" + also:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


def fetched(version, folder):
    """The program of a release, held against the checksums that were published with it."""
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?", version):
        stop(f"version {version!r} is none such as 0.1.0")
    name = f"orch-{version}-{platform.machine()}-linux"
    base = "/".join([os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_ACTION_REPOSITORY"], "releases/download", f"v{version}"])
    try:
        get = lambda file: urllib.request.urlopen(f"{base}/{file}", timeout=120).read()
        sums, archive = get("SHA256SUMS").decode(), get(f"{name}.tar.gz")
    except (OSError, ValueError) as e:
        stop(f"release {version} can't be fetched from {base}: {e}")
    wanted = {file.lstrip("*"): sha for sha, file in (line.split(maxsplit=1) for line in sums.splitlines() if line.strip())}
    found = hashlib.sha256(archive).hexdigest()
    if wanted.get(f"{name}.tar.gz") != found:
        stop(f"{name}.tar.gz has the checksum {found}, SHA256SUMS says {wanted.get(f'{name}.tar.gz', 'nothing')}")
    path = folder / "orch.tar.gz"
    path.write_bytes(archive)
    with tarfile.open(path) as tar:
        member = tar.getmember(f"{name}/orch")
        if not member.isfile():
            stop(f"{name}.tar.gz has no program")
        with tar.extractfile(member) as source, open(folder / "orch", "wb") as out:
            shutil.copyfileobj(source, out)
    (folder / "orch").chmod(0o755)
    return str(folder / "orch")


def annotate(found):
    """found: (level, file or None, line or None, title, text), the worst first."""
    for level in ("error", "warning", "notice"):
        ours = [f for f in found if f[0] == level]
        for _, file, line, title, text in ours[:MOST]:
            where = {"file": file, "line": line, "title": title}
            where = ",".join(f"{k}={escaped(str(v), ',:')}" for k, v in where.items() if v)
            print(f"::{level} {where}::{escaped(text)}")
        if len(ours) > MOST:
            print(f"{len(ours) - MOST} further findings of this level are in the summary")


def of_sarif(path):
    document = json.loads(path.read_text())
    run = document["runs"][0]
    found = []
    for result in run.get("results", []):
        if result.get("suppressions"):
            continue
        place = (result.get("locations") or [{}])[0].get("physicalLocation", {})
        file, line = place.get("artifactLocation", {}).get("uri"), place.get("region", {}).get("startLine")
        # SARIF names files by URI, annotations by their path on disk.
        file = urllib.parse.unquote(file) if file else None
        found.append((LEVELS.get(result.get("level", "warning"), "warning"), file, line, result.get("ruleId"), result["message"]["text"]))
    for note in (run.get("invocations") or [{}])[0].get("toolExecutionNotifications", []):
        found.append((LEVELS.get(note.get("level", "warning"), "warning"), None, None, "orch", note["message"]["text"]))
    return run.get("properties", {}).get("verdict", ""), found


def of_checks(text):
    document = json.loads(text)
    failed = [c for c in document.get("checks", []) if c["result"] == "FAIL"]
    found = [("warning" if c.get("waived") else "error", None, None, c["id"], c["detail"]) for c in failed]
    found += [("error", None, None, "orch", e["message"]) for e in document.get("errors", [])]
    return document.get("verdict", ""), found


def summarize(report):
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path or not report.exists():
        return
    # The front matter is for programs.
    text = re.sub(r"\A---\n.*?\n---\n", "", report.read_text(errors="replace"), flags=re.S)
    with open(path, "a") as out:
        out.write(text if len(text) <= SUMMARY else text[:SUMMARY] + "\n\n[cut]\n")


def main():
    command, args = os.environ["ORCH_ACTION_COMMAND"].strip(), shlex.split(os.environ.get("ORCH_ACTION_ARGS", ""))
    if command not in COMMANDS:
        stop(f"command {command!r} is none of {', '.join(COMMANDS)}")
    folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("RUNNER_TEMP")))
    version = os.environ.get("ORCH_ACTION_VERSION", "").strip().lstrip("v")
    program = fetched(version, folder) if version else shutil.which("orch")
    if not program:
        stop("there is no orch on PATH; give the input version, or install it before this step")
    report, sarif = folder / "report.md", folder / "orch.sarif"
    call = [program, command, "--report", str(report)]
    base = os.environ.get("GITHUB_BASE_REF")
    if command == "security-scan":
        call += ["--format", "sarif", "--output", str(sarif)]
        if base and not any(a == "--range" or a.startswith("--range=") for a in args):
            call += ["--range", f"origin/{base}..HEAD"]
        ran = subprocess.run(call + args)
        verdict, found = of_sarif(sarif) if sarif.exists() else ("", [])
    else:
        ran = subprocess.run(call + ["--json"] + args, stdout=subprocess.PIPE, text=True)
        print(ran.stdout, end="")
        verdict, found = of_checks(ran.stdout) if ran.stdout.startswith("{") else ("", [])
    annotate(found)
    summarize(report)
    if os.environ.get("GITHUB_OUTPUT"):
        with open(os.environ["GITHUB_OUTPUT"], "a") as out:
            out.write(f"verdict={verdict}\n" + (f"sarif={sarif}\n" if sarif.exists() else ""))
    sys.exit(ran.returncode)


main()
