//! The fake's actions inside its repository, by git.

use super::{Data, Effect, Pull, Rule, Script, error, not_found};
use crate::support::git::{person_git, raw};
use crate::support::http::Reply;
use serde_json::{Value, json};
use std::path::Path;

pub fn rev(repo: &Path, name: &str) -> Option<String> {
    let out = person_git(repo, &["rev-parse", "--verify", "-q", &format!("{name}^{{commit}}")]);
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

pub fn branch(repo: &Path, name: &str) -> Option<String> {
    named(repo, &format!("refs/heads/{name}"))
}

/// The commit of a name, without a process for each query.
pub fn named(repo: &Path, name: &str) -> Option<String> {
    let loose = std::fs::read_to_string(repo.join(name)).ok().map(|text| text.trim().to_owned());
    loose.or_else(|| {
        let packed = std::fs::read_to_string(repo.join("packed-refs")).ok()?;
        packed.lines().find_map(|l| l.split_once(' ').filter(|(_, n)| *n == name).map(|(id, _)| id.to_owned()))
    })
}

/// A commit on a branch of a bare repository, by anyone.
pub fn commit_on(repo: &Path, name: &str, file: &str) -> String {
    let tip = branch(repo, name).unwrap();
    let blob = raw(repo, &["hash-object", "-w", "HEAD"]);
    let index = repo.join(format!("index-{}", name.replace('/', "-")));
    let git = |args: &[&str]| {
        let mut all = vec!["-c", "core.bare=false", "--work-tree=."];
        all.extend(args);
        let out = std::process::Command::new("git")
            .current_dir(repo)
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_DIR", repo)
            .args(all)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    git(&["read-tree", &tip]);
    git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{file}")]);
    let tree = git(&["write-tree"]);
    let made = raw(repo, &["commit-tree", &tree, "-p", &tip, "-m", &format!("{file} by somebody")]);
    raw(repo, &["update-ref", &format!("refs/heads/{name}"), &made, &tip]);
    made
}

/// What prevents landing.
pub enum Obstacle {
    Conflict,
    BaseMoved,
}

impl Data {
    pub(super) fn merge(&mut self, repo: &Path, number: i64, body: &Value) -> Reply {
        let forbidden = ["force_merge", "merge_when_checks_succeed", "delete_branch_after_merge"];
        if forbidden.iter().any(|name| body[name] == json!(true)) {
            return Reply::unexpected("orch never forces, schedules or deletes with a merge");
        }
        let script = self.scripts.pop_front().unwrap_or(Script::new(Effect::Real, None));
        if let Some(before) = script.before {
            before(repo, self);
            // The real server's check has not run again at that moment.
            let checks: Vec<u32> = self.pulls.iter().map(|p| p.checking).collect();
            self.sync(repo);
            self.pulls.iter_mut().zip(checks).for_each(|(p, c)| p.checking = c);
        }
        let real = match script.effect {
            Effect::Nothing => error(500, ""),
            Effect::Real => self.really_merge(repo, number, body, true),
            Effect::LandLeftOpen => self.really_merge(repo, number, body, false),
        };
        if let Some(after) = script.after {
            after(repo, self);
        }
        script.reply.unwrap_or(real)
    }

    fn really_merge(&mut self, repo: &Path, number: i64, body: &Value, mark: bool) -> Reply {
        let style = body["Do"].as_str().unwrap_or("");
        // The body is validated before anything is checked.
        if style.is_empty() {
            return error(422, "[Do]: Required");
        }
        if !["merge", "rebase", "rebase-merge", "squash", "fast-forward-only", "manually-merged"].contains(&style) {
            return error(422, "[Do]: In");
        }
        let Some(p) = self.pulls.iter().find(|p| p.number == number).cloned() else { return not_found() };
        if p.merged && self.modern() {
            return error(405, if self.since(26) { "The PR is already merged" } else { "" });
        }
        if !p.open {
            return not_found();
        }
        let rule = self.rules.iter().find(|(name, _)| *name == p.base).map(|(_, rule)| rule.clone());
        if self.reader || rule.as_ref().is_some_and(|r| r.no_merge) {
            return error(405, "User not allowed to merge PR");
        }
        if p.title.starts_with("WIP:") {
            return error(405, "Work in progress PRs cannot be merged");
        }
        if p.checking > 0 || conflicts(repo, &p) {
            return error(405, "Please try again later");
        }
        let head = branch(repo, &p.head).unwrap();
        if let Some(unmet) = rule.and_then(|r| self.unmet(repo, &r, &p, &head)) {
            let bare = self.since(26);
            return error(
                405,
                &if bare { unmet.to_owned() } else { format!("not allowed to merge [reason: {unmet}]") },
            );
        }
        if !self.methods.contains(&style) {
            return error(405, &format!("{style} is not allowed an allowed merge style for this repository"));
        }
        // Versions without the field ignore it.
        if self.guards_head() && body["head_commit_id"].as_str().is_some_and(|h| h != head) {
            return error(409, "head out of date");
        }
        if let Some(said) = &self.hook {
            return error(409, &format!("PushRejected with remote message: {said}"));
        }
        let title = body["MergeTitleField"].as_str().filter(|t| !t.is_empty()).unwrap_or("Merge");
        let message = format!("{title}\n\n{}", body["MergeMessageField"].as_str().unwrap_or(""));
        match self.land(repo, number, style, &message, mark) {
            Ok(()) => Reply { body: vec![], ..Reply::json(200, &Value::Null) },
            Err(Obstacle::BaseMoved) => error(
                409,
                "PushRejected with remote message: cannot lock ref 'refs/heads/main': is at x but expected y",
            ),
            Err(Obstacle::Conflict) => Reply::json(
                409,
                &json!({"Style": style, "StdOut": "CONFLICT", "StdErr": "", "CommitSHA": "", "Err": {}}),
            ),
        }
    }

    /// Which part of the protection is not met, in the server's order and words.
    fn unmet(&self, repo: &Path, rule: &Rule, p: &Pull, head: &str) -> Option<&'static str> {
        let of_head = |pattern: &str| {
            let mut of = self.statuses.iter().filter(|s| s.sha == head);
            let start = pattern.strip_suffix('*');
            of.rfind(|s| start.map_or(s.context == pattern, |start| s.context.starts_with(start)))
        };
        if rule.contexts.iter().any(|c| of_head(c).is_none_or(|s| s.state != "success")) {
            return Some("Not all required status checks successful");
        }
        if rule.approvals < rule.required_approvals {
            return Some("Does not have enough approvals");
        }
        if rule.rejected {
            return Some("There are requested changes");
        }
        let contains = || person_git(repo, &["merge-base", "--is-ancestor", &p.base, head]).status.success();
        if rule.no_outdated && !contains() {
            return Some("The head branch is behind the base branch");
        }
        if rule.unsigned {
            return Some("the branch requires signed commits but not all head commits are verified");
        }
        None
    }

    pub(super) fn land(
        &mut self,
        repo: &Path,
        number: i64,
        style: &str,
        message: &str,
        mark: bool,
    ) -> Result<(), Obstacle> {
        let p = self.pull_mut(number).clone();
        let made = land(repo, &p.base, &p.head, style, message)?;
        if mark {
            let p = self.pull_mut(number);
            (p.open, p.merged, p.merge_commit) = (false, true, Some(made));
        }
        Ok(())
    }
}

/// Lands one branch on another by git; returns the commit.
pub fn land(repo: &Path, base_name: &str, head_name: &str, style: &str, message: &str) -> Result<String, Obstacle> {
    let (base, head) = (branch(repo, base_name).unwrap(), branch(repo, head_name).unwrap());
    let made = match style {
        "rebase" if person_git(repo, &["merge-base", "--is-ancestor", &base, &head]).status.success() => head,
        "merge" | "squash" | "rebase" => {
            let out = person_git(repo, &["merge-tree", "--write-tree", &base, &head]);
            if !out.status.success() {
                return Err(Obstacle::Conflict);
            }
            let tree = String::from_utf8(out.stdout).unwrap().trim().to_owned();
            let mut args = vec!["commit-tree", &tree, "-p", &base];
            if style == "merge" {
                args.extend(["-p", &head]);
            }
            args.extend(["-m", message]);
            raw(repo, &args)
        }
        other => panic!("the fake does not land by {other}"),
    };
    let swap = person_git(repo, &["update-ref", &format!("refs/heads/{base_name}"), &made, &base]);
    if swap.status.success() { Ok(made) } else { Err(Obstacle::BaseMoved) }
}

pub fn conflicts(repo: &Path, p: &Pull) -> bool {
    conflict_of(repo, &p.base, &p.head)
}

/// Whether two branches can't be merged.
pub fn conflict_of(repo: &Path, base: &str, head: &str) -> bool {
    let (Some(base), Some(head)) = (branch(repo, base), branch(repo, head)) else { return true };
    !person_git(repo, &["merge-tree", "--write-tree", &base, &head]).status.success()
}
