//! The Debian package (DSK-3): built by `scripts/release`, installed in a clean root.

use std::path::Path;
use std::process::{Command, Output};

fn run(command: &mut Command) -> Output {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
    out
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// As dpkg does it if permitted, else its files alone.
fn install(deb: &str, root: &Path) {
    if !rustix::process::geteuid().is_root() {
        run(Command::new("dpkg-deb").args(["-x", deb]).arg(root));
        return;
    }
    let admin = root.join("var/lib/dpkg");
    for dir in ["updates", "info"] {
        std::fs::create_dir_all(admin.join(dir)).unwrap();
    }
    for file in ["status", "available"] {
        std::fs::write(admin.join(file), "").unwrap();
    }
    // Nothing else is in the root, and no script of the package needs anything.
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.display())).args(["--force-depends", "--force-script-chrootless"]);
    run(dpkg.args(["--log=/dev/null", "--install", deb]));
    let status = std::fs::read_to_string(admin.join("status")).unwrap();
    assert!(status.contains("Package: orch-pipeline") && status.contains("install ok installed"), "{status}");
}

#[test]
fn the_package_is_built_and_installed_in_a_clean_root() {
    if ["dpkg", "dpkg-deb", "strip", "objdump"].iter().any(|t| which::which(t).is_err()) {
        eprintln!("\n*** NOT TESTED: no dpkg or binutils here ***\n");
        return;
    }
    let (out, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut release = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release"));
    release.env("RELEASE_PROGRAM", crate::support::ORCH).env("RELEASE_LEVEL", "0");
    let deb = text(&run(release.arg("--deb-only").arg(out.path())));
    assert_eq!(text(&run(Command::new("dpkg-deb").args(["-f", &deb, "Package"]))), "orch-pipeline");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "only the package");
    install(&deb, root.path());
    let at = |path: &str| root.path().join(path);
    let version = text(&run(Command::new(at("usr/bin/orch")).arg("--version")));
    assert_eq!(version, format!("orch {}", env!("CARGO_PKG_VERSION")));
    for path in [
        "usr/share/man/man1/orch.1.gz",
        "usr/share/man/man1/orch-status.1.gz",
        "usr/share/bash-completion/completions/orch",
        "usr/share/zsh/vendor-completions/_orch",
        "usr/share/fish/vendor_completions.d/orch.fish",
        "usr/lib/systemd/system/orch-tick.timer",
        "usr/share/doc/orch-pipeline/copyright",
    ] {
        assert!(at(path).is_file(), "{path}");
    }
    assert!(!at("etc").exists(), "no unit is enabled, and no configuration is anybody's");
    let mut check = Command::new(at("usr/bin/orch"));
    check.env_clear().env("HOME", out.path()).env("PATH", std::env::var_os("PATH").unwrap());
    let example = at("usr/share/doc/orch-pipeline/examples/orch.yaml");
    run(check.arg("--config").arg(example).args(["config", "check"]));
}
