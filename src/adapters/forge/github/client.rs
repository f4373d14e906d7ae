//! Reads, pull requests, comments and probes. Every write reads first, and again when its answer is lost.

use super::{Github, wire};
use crate::adapters::forge::merge_state::{again, cut, mark};
use crate::adapters::forge::{
    Account, Awaited, BranchRule, CommentOutcome, CommitStatus, DeployReport, Forge, ForgeError, ForgeVersion, Landing,
    MergeOutcome, Product, Protection, PullRequest, PullState, RepoInfo, StatusState, Wanted,
};
use crate::adapters::git::Mirror;
use crate::adapters::github::{Failure, flag, text};
use crate::adapters::http::{Method, Request, segment};
use crate::model::examined::Examined;
use crate::model::ids::Sha;
use crate::model::refusal::Refusal;
use crate::model::rules::{Queue, Rules};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, ForgeError>;

/// Pull requests whose heads show what CI posts.
const RECENT: &str = "10";
const MAX_COMMENT: usize = 60_000;
/// The id of a comment that no server has.
const NO_COMMENT: u64 = 999_999_999_999;

impl Github {
    /// A path below the repository.
    pub(super) fn at(&self, tail: &str) -> String {
        format!("{}/{tail}", self.repo)
    }

    /// The result of an exchange below the repository: a plain 404 is distinguished from a repository that can't be
    /// seen.
    pub(super) fn or_unseen<T>(&self, path: &str, done: std::result::Result<T, Failure>) -> Result<T> {
        let said = match done {
            Ok(done) => return Ok(done),
            Err(e) => wire::error(e),
        };
        let missing = matches!(said, ForgeError::NotFound(_)) && path.starts_with(&self.repo);
        Err(if missing { self.unseen(path, said) } else { said })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.or_unseen(path, self.api.get(path))
    }

    pub(super) fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.or_unseen(path, self.api.write(method, path, body))
    }

    /// GitHub hides a private repository from those who may not see it, and then nothing in it is known to be gone.
    fn unseen(&self, path: &str, said: ForgeError) -> ForgeError {
        if path != self.repo {
            match self.api.get(&self.repo).map_err(wire::error) {
                Ok(_) => return said,
                Err(ForgeError::NotFound(_)) => {}
                Err(e) => return e,
            }
        }
        let who = match self.api.me().map_err(wire::error) {
            Ok(login) => login,
            Err(ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }) => "the account".to_owned(),
            Err(e) => return e,
        };
        let text = format!(
            "{who} can't see the repository {}: it is gone, or the account or App has no access to it ({said})",
            self.full_name
        );
        ForgeError::Refused { refusal: Refusal::Gone, text }
    }

    /// Parses a pull request, and checks that it belongs to the repository of the first contact.
    pub(super) fn read(&self, v: &Value) -> Result<wire::Pull> {
        let pull = wire::pull(v).map_err(ForgeError::Invalid)?;
        match self.id {
            Some(id) if pull.base_repo != 0 && pull.base_repo != id => Err(ForgeError::Refused {
                refusal: Refusal::MovedTo { to: String::new() },
                text: format!(
                    "{}'s id is {} and was {id}: another repository took its name",
                    self.full_name, pull.base_repo
                ),
            }),
            Some(_) | None => Ok(pull),
        }
    }

    /// The repository's id, which survives a rename.
    pub fn id(&self) -> Result<u64> {
        let repo = self.get(&self.repo)?;
        repo.get("id")
            .and_then(Value::as_u64)
            .ok_or_else(|| ForgeError::Invalid(format!("GET {}: a repository without an id", self.repo)))
    }

    /// One pull request with all that a single read shows; `None`: there is none.
    pub(super) fn whole(&self, number: i64) -> Result<Option<wire::Pull>> {
        match self.get(&self.at(&format!("pulls/{number}"))) {
            Ok(v) => self.read(&v).map(Some),
            // The repository is visible: this is gone.
            Err(ForgeError::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn matches(&self, pull: &wire::Pull, head: &str, base: &str) -> bool {
        pull.request.head == head
            && pull.request.base == base
            && pull.request.state == PullState::Open
            && pull.head_repo.eq_ignore_ascii_case(&self.full_name)
    }

    /// Checks that a branch is missing on the forge, which the 422 of a pull request says in words alone.
    fn no_branch(&self, head: &str, base: &str) -> Result<Option<ForgeError>> {
        for branch in [head, base] {
            let name = branch.split('/').map(segment).collect::<Vec<_>>().join("/");
            match self.get(&self.at(&format!("git/ref/heads/{name}"))) {
                Ok(_) => {}
                Err(e @ ForgeError::NotFound(_)) => return Ok(Some(e)),
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Optional: a refusal is reported, and nothing waits for it. One reviewer who can't be asked makes GitHub refuse
    /// all.
    fn ask_reviewers(&self, number: i64) {
        if self.reviewers.is_empty() && self.team_reviewers.is_empty() {
            return;
        }
        let body = json!({"reviewers": self.reviewers, "team_reviewers": self.team_reviewers});
        let path = self.at(&format!("pulls/{number}/requested_reviewers"));
        if let Err(e) = self.write(Method::Post, &path, &body) {
            tracing::warn!(pull = number, "no reviewer could be requested: {e}");
        }
    }

    /// The active rules of a branch, rulesets of all levels; classic protection is not included.
    pub(super) fn rules_of(&self, branch: &str) -> Result<Rules> {
        let name = segment(branch);
        let path = self.at(&format!("rules/branches/{name}"));
        match self.or_unseen(&path, self.api.all(&path, &[], "")) {
            Ok(rows) => Ok(wire::rules(&rows)),
            // An older Enterprise Server has none.
            Err(ForgeError::NotFound(_)) => Ok(Rules::default()),
            Err(e) => Err(e),
        }
    }

    /// The rules of the branch that everything lands on.
    pub(super) fn base_rules(&self) -> Result<&Rules> {
        if let Some(rules) = self.rules.get() {
            return Ok(rules);
        }
        let base = match &self.base {
            Some(base) => base.clone(),
            None => text(&self.get(&self.repo)?, "default_branch"),
        };
        let rules = self.rules_of(&base)?;
        Ok(self.rules.get_or_init(|| rules))
    }
}

impl Forge for Github {
    fn statuses(&self, sha: &Sha) -> Result<Vec<CommitStatus>> {
        self.statuses(sha)
    }

    fn post_status(&self, sha: &Sha, context: &str, state: StatusState, description: &str) -> Result<bool> {
        self.post_status(sha, context, state, description)
    }

    fn report_deploy(&self, report: &DeployReport<'_>) -> Result<bool> {
        self.report_deploy(report)
    }

    fn asks_by_name(&self) -> bool {
        true
    }

    fn kept(&self) -> Vec<(String, String)> {
        let id = self.id.filter(|_| !self.kept_as.is_empty());
        id.map(|id| (self.kept_as.clone(), id.to_string())).into_iter().collect()
    }

    /// Rights one by one (GH-1).
    fn examine(&self, wanted: &Wanted<'_>) -> Vec<Examined> {
        self.rights(wanted)
    }

    fn rules(&self, branch: &str) -> Result<Option<(Rules, bool)>> {
        let rules = self.rules_of(branch)?;
        // A task's branch need not exist.
        let name = segment(branch);
        let protected = match self.get(&self.at(&format!("branches/{name}"))) {
            Ok(v) => flag(&v, "protected") == Some(true),
            Err(ForgeError::NotFound(_)) => false,
            Err(e) => return Err(e),
        };
        // A ruleset makes a branch protected, too.
        let classic = protected && rules.types.is_empty();
        Ok(Some((rules, classic)))
    }

    fn queue(&self, number: i64) -> Result<Option<Queue>> {
        self.queue(number)
    }

    fn enter_queue(&self, number: i64, head: &Sha) -> Result<Option<(Awaited, String)>> {
        self.enter_queue(number, head)
    }

    fn leave_queue(&self, number: i64) -> Result<bool> {
        self.leave_queue(number)
    }

    fn mark_ready(&self, number: i64) -> Result<()> {
        self.mark_ready(number)
    }

    fn merge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeOutcome> {
        self.merge(mirror, number, landing)
    }

    fn pull(&self, number: i64) -> Result<Option<PullRequest>> {
        Ok(self.whole(number)?.map(|p| p.request))
    }

    /// Of several (two creators at once) the oldest. GitHub ignores the filter unless the owner precedes the branch.
    fn find_pull(&self, head: &str, base: &str) -> Result<Option<PullRequest>> {
        let path = self.at("pulls");
        let head_of = format!("{}:{head}", self.owner);
        let rows =
            self.or_unseen(&path, self.api.all(&path, &[("state", "all"), ("head", &head_of), ("base", base)], ""))?;
        let mut found: Option<PullRequest> = None;
        for row in &rows {
            // One that can't be read may be the one searched for.
            let pull = self.read(row)?;
            if self.matches(&pull, head, base) && found.as_ref().is_none_or(|f| pull.request.number < f.number) {
                found = Some(pull.request);
            }
        }
        Ok(found)
    }

    /// Heads of the pull requests that changed last, open or not, newest first.
    fn recent_heads(&self) -> Result<Vec<Sha>> {
        let path = self.at("pulls");
        let query = [("state", "all"), ("sort", "updated"), ("direction", "desc"), ("per_page", RECENT)];
        let reply = self.or_unseen(&path, self.api.send(&Request::new(Method::Get, &path).query(&query)))?;
        let rows = reply.json()?;
        let rows = rows.as_array().ok_or_else(|| ForgeError::Invalid(format!("GET {path}: expected a list")))?;
        Ok(rows.iter().filter_map(|row| wire::pull(row).ok()?.request.head_sha).collect())
    }

    fn open_pull(&self, head: &str, base: &str, title: &str, body: &str) -> Result<PullRequest> {
        if let Some(found) = self.find_pull(head, base)? {
            return Ok(found);
        }
        let body = without_closing(body);
        let wanted = json!({"head": head, "base": base, "title": title, "body": body, "draft": self.draft});
        let first = match self.write(Method::Post, &self.at("pulls"), &wanted) {
            Ok(v) => match self.read(&v) {
                Ok(pull) if self.matches(&pull, head, base) => {
                    self.ask_reviewers(pull.request.number);
                    return Ok(pull.request);
                }
                Ok(_) => ForgeError::UnknownOutcome("the new pull request is not the requested one".to_owned()),
                Err(e) => ForgeError::UnknownOutcome(e.to_string()),
            },
            Err(e) => e,
        };
        match first {
            // 422 says that there is one, that nothing differs, or that a branch is missing: check the state, don't
            // parse the words.
            ForgeError::Invalid(_) | ForgeError::Conflict(_) | ForgeError::UnknownOutcome(_) => {
                let found = again(&first, self.find_pull(head, base))?;
                match found {
                    Some(found) => Ok(found),
                    None => Err(self.no_branch(head, base)?.unwrap_or(first)),
                }
            }
            ForgeError::Refused { .. }
            | ForgeError::NotFound(_)
            | ForgeError::Throttled { .. }
            | ForgeError::Transient(_) => Err(first),
        }
    }

    fn close_pull(&self, number: i64) -> Result<()> {
        let open = |pull: Option<PullRequest>| pull.is_some_and(|p| p.state == PullState::Open && !p.merged);
        if !open(self.pull(number)?) {
            return Ok(());
        }
        let path = self.at(&format!("pulls/{number}"));
        match self.write(Method::Patch, &path, &json!({"state": "closed"})) {
            Ok(_) => Ok(()),
            // Merged meanwhile, or gone.
            Err(
                e @ (ForgeError::Conflict(_)
                | ForgeError::Invalid(_)
                | ForgeError::UnknownOutcome(_)
                | ForgeError::NotFound(_)),
            ) => {
                if open(again(&e, self.pull(number))?) {
                    Err(e)
                } else {
                    Ok(())
                }
            }
            Err(e) => Err(e),
        }
    }

    /// One comment per key, edited if its text differs. It is recognised by the key in its first line, and only orch's
    /// own comments count, because anybody can write that line.
    fn comment_once(&self, number: i64, marker: &str, body: &str) -> Result<CommentOutcome> {
        let mark = mark(marker)?;
        let path = self.at(&format!("issues/{number}/comments"));
        let wanted = format!("{mark}\n{}", cut(body, MAX_COMMENT));
        let existing = || -> Result<Option<(u64, bool)>> {
            for row in self.or_unseen(&path, self.api.all(&path, &[], ""))? {
                let (said, author) =
                    (text(&row, "body"), row.get("user").map(|u| text(u, "login")).unwrap_or_default());
                if said.trim_start().starts_with(&mark) && self.api.is_me(&author).map_err(wire::error)? {
                    let id = row.get("id").and_then(Value::as_u64).unwrap_or(0);
                    // GitHub returns line ends as the browser's.
                    return Ok(Some((id, said.replace('\r', "").trim() == wanted.trim())));
                }
            }
            Ok(None)
        };
        let body = json!({"body": wanted});
        let sent = match existing()? {
            Some((_, true)) => return Ok(CommentOutcome::Present),
            Some((id, false)) => {
                let path = self.at(&format!("issues/comments/{id}"));
                self.write(Method::Patch, &path, &body).map(|_| CommentOutcome::Present)
            }
            None => self.write(Method::Post, &path, &body).map(|_| CommentOutcome::Posted),
        };
        match sent {
            Err(e @ ForgeError::UnknownOutcome(_)) => {
                if again(&e, existing())?.is_some_and(|(_, same)| same) {
                    Ok(CommentOutcome::Posted)
                } else {
                    Err(e)
                }
            }
            sent => sent,
        }
    }

    /// GitHub checks the permission before it searches for the comment: 404 with it, 403 without.
    fn may_comment(&self) -> Result<()> {
        let path = self.at(&format!("issues/comments/{NO_COMMENT}"));
        match self.write(Method::Patch, &path, &json!({"body": "-"})) {
            Ok(_) | Err(ForgeError::NotFound(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn protection(&self, branch: &str) -> Result<Protection> {
        let name = segment(branch);
        let b = self.get(&self.at(&format!("branches/{name}")))?;
        let rules = self.rules_of(branch)?;
        let protected = flag(&b, "protected") == Some(true) || !rules.types.is_empty();
        let mut required_contexts: Vec<String> = rules.checks.into_iter().map(|(context, _)| context).collect();
        // Everybody who may push can see what classic protection requires.
        let classic = b.get("protection").and_then(|p| p.get("required_status_checks")).and_then(|c| c.get("contexts"));
        let classic = classic.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        required_contexts.extend(classic.map(str::to_owned));
        required_contexts.sort();
        required_contexts.dedup();
        Ok(Protection {
            protected,
            our_token_exempt: None,
            required_contexts,
            required_approvals: rules.approvals,
            may_merge: None,
            may_push: None,
            rule: rules.types.join(", "),
        })
    }

    /// Rulesets don't map to rules with one glob each: the rules of a branch are read instead.
    fn branch_rules(&self) -> Result<Option<Vec<BranchRule>>> {
        Ok(None)
    }

    fn user(&self) -> Result<Account> {
        Ok(Account { login: self.api.me().map_err(wire::error)?, admin: false })
    }

    fn version(&self) -> Result<ForgeVersion> {
        let meta = self.api.get("/meta").map_err(wire::error)?;
        if !meta.is_object() {
            return Err(ForgeError::Invalid("GET /meta: expected an object; is this GitHub's API?".to_owned()));
        }
        let own = text(&meta, "installed_version");
        let version = if own.is_empty() { "github.com".to_owned() } else { own };
        Ok(ForgeVersion { product: Product::Github, version, guards_head: true })
    }

    fn repository(&self) -> Result<RepoInfo> {
        let v = self.get(&self.repo)?;
        let may = |name: &str| v.get("permissions").and_then(|p| flag(p, name));
        Ok(RepoInfo {
            full_name: text(&v, "full_name"),
            default_branch: text(&v, "default_branch"),
            archived: flag(&v, "archived").unwrap_or(false),
            may_push: may("push"),
            admin: may("admin"),
            method_enabled: flag(&v, wire::method_switch(self.method)),
            pull_requests: None,
        })
    }
}

/// The text without what would close an issue when it lands: GitHub reads `fixes #12` in a pull request's body and in
/// commit messages (GH-1). A dash separates the word from the number.
pub(super) fn without_closing(text: &str) -> String {
    const WORDS: [&str; 9] = ["close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved"];
    let mut out = String::with_capacity(text.len());
    let mut after_word = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let bare = piece.trim_end();
        let names_one = bare.contains('#') || bare.contains("://") || bare.to_ascii_uppercase().starts_with("GH-");
        if after_word && names_one {
            out.push_str("- ");
        }
        out.push_str(piece);
        let word = bare.trim_end_matches(':');
        let word = word.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("").to_ascii_lowercase();
        after_word = if bare.is_empty() { after_word } else { WORDS.contains(&word.as_str()) };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gh_1_no_text_of_ours_closes_an_issue() {
        for (said, kept) in [
            ("Fixes #12", "Fixes - #12"),
            ("SHOP-1: (closes:  o/r#3) and more", "SHOP-1: (closes:  - o/r#3) and more"),
            ("resolved\nhttps://github.com/o/r/issues/3", "resolved\n- https://github.com/o/r/issues/3"),
            ("fixed GH-3", "fixed - GH-3"),
            ("Fix the door, see #3", "Fix the door, see #3"),
            ("prefixes #3", "prefixes #3"),
            ("<!-- orch:t1 -->", "<!-- orch:t1 -->"),
            ("", ""),
        ] {
            assert_eq!(without_closing(said), kept);
        }
    }
}
