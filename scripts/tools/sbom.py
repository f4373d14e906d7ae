"""A CycloneDX document of the crates that the program is built from; reads `cargo metadata` on standard input."""
import json, sys

data = json.load(sys.stdin)
packages = {p["id"]: p for p in data["packages"]}
nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
root = data["resolve"]["root"]


def built(node):
    """The crates that a crate links or needs to build, without those only its tests need."""
    return [d["pkg"] for d in node["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]


seen, todo = set(), [root]
while todo:
    at = todo.pop()
    if at not in seen:
        seen.add(at)
        todo.extend(built(nodes[at]))


def component(p, kind):
    ref = f"pkg:cargo/{p['name']}@{p['version']}"
    out = {"type": kind, "bom-ref": ref, "name": p["name"], "version": p["version"], "purl": ref}
    if p.get("license"):
        out["licenses"] = [{"expression": p["license"].replace("/", " OR ")}]
    return out


order = sorted(seen - {root}, key=lambda i: (packages[i]["name"], packages[i]["version"]))
ref = lambda i: f"pkg:cargo/{packages[i]['name']}@{packages[i]['version']}"
json.dump(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root], "application")},
        "components": [component(packages[i], "library") for i in order],
        "dependencies": [{"ref": ref(i), "dependsOn": sorted(ref(d) for d in built(nodes[i]))} for i in [root, *order]],
    },
    sys.stdout,
    indent=1,
)
print()
