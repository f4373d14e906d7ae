//! How git gets its password (BND-4): from a helper that reads an unnamed file inherited by git. No process has it in
//! its arguments or environment.

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Command;

/// The descriptor at which the helper finds the file.
const SECRET_FD: i32 = 9;

/// Name and secret for an HTTP remote. `Debug` shows neither.
#[derive(Clone)]
pub struct Credential {
    user: String,
    secret: String,
}

impl Credential {
    /// Takes the account's name and its password or token (with a token alone, any name will do).
    pub fn new(user: &str, secret: &str) -> Self {
        Self { user: user.to_owned(), secret: secret.to_owned() }
    }

    /// The helper's answer, in an unnamed file: any process that inherits it can read it, any number of times.
    fn file(&self) -> std::io::Result<OwnedFd> {
        let text = zeroize::Zeroizing::new(format!("username={}\npassword={}\n", self.user, self.secret));
        let mut file = File::from(memfd_create("orch-credential", MemfdFlags::CLOEXEC)?);
        file.write_all(text.as_bytes())?;
        Ok(file.into())
    }

    /// Lets a command inherit it where its helper expects it.
    pub(super) fn hand_to(&self, command: &mut Command) -> std::io::Result<()> {
        let mapping = FdMapping { parent_fd: self.file()?, child_fd: SECRET_FD };
        command.fd_mappings(vec![mapping]).map(drop).map_err(std::io::Error::other)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

/// The helper for an HTTP remote. git asks it for a URL, and it answers only if scheme, host and port are the remote's.
/// `None`: the remote is not HTTP, or is written in a way that names no server.
pub(super) fn helper(remote: &str) -> Option<String> {
    let (scheme, rest) = remote.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    Some(format!(
        "credential.{scheme}://{host}.helper=!f() {{ test \"$1\" = get || exit 0; while IFS== read -r k v; do case $k in \
         protocol) p=$v;; host) h=$v;; esac; done; test \"$p\" = '{scheme}' && test \"$h\" = '{host}' && \
         exec cat /proc/self/fd/{SECRET_FD}; }}; f"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::cmd::{Cmd, Git};
    use super::*;
    use std::path::Path;
    use std::process::Stdio;

    #[test]
    fn bnd_4_the_helper_answers_for_the_remotes_scheme_host_and_port_only() {
        let pair = helper("https://u@git.example:3000/a/b.git").unwrap();
        let (key, script) = pair.split_once(".helper=!").unwrap();
        assert_eq!(key, "credential.https://git.example:3000");
        for none in
            ["/srv/a.git", "ssh://git.example/a", "git.example:a/b.git", "https:///a", "https://a'b/c", "file:///a"]
        {
            assert_eq!(helper(none), None, "{none}");
        }
        let credential = Credential::new("orch", "s3cret=x");
        let ask = |word: &str, asked: &str| {
            let mut sh = Command::new("sh");
            sh.arg("-c").arg(format!("{script} \"$@\"")).args(["f", word]).stdin(Stdio::piped()).stdout(Stdio::piped());
            credential.hand_to(&mut sh).unwrap();
            let mut child = sh.spawn().unwrap();
            // A helper without an answer does not read its input.
            let _ = child.stdin.take().unwrap().write_all(asked.as_bytes());
            String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
        };
        let own = "protocol=https\nhost=git.example:3000\nwwwauth[]=Basic realm=\"x\"\n\n";
        assert_eq!(ask("get", own), "username=orch\npassword=s3cret=x\n");
        assert_eq!(ask("store", own), "");
        for other in
            ["protocol=http\nhost=git.example:3000\n", "protocol=https\nhost=git.example\n", "host=git.example:3000\n"]
        {
            assert_eq!(ask("get", other), "", "{other}");
        }
    }

    #[test]
    fn bnd_4_only_a_git_that_talks_to_a_remote_reaches_the_ssh_agent() {
        let git = Git::unchecked(Path::new("git"));
        let sees = |cmd: Cmd<'_>| cmd.command().get_envs().any(|(name, _)| name == "SSH_AUTH_SOCK");
        let there = std::env::var_os("SSH_AUTH_SOCK").is_some();
        assert_eq!(sees(git.cmd(Path::new("/")).remote_limit()), there);
        assert!(!sees(git.cmd(Path::new("/"))));
    }

    #[test]
    fn a_credential_is_not_shown() {
        assert_eq!(format!("{:?}", Credential::new("u", "s3cret")), "Credential(…)");
    }
}
