//! The agents' system prompts, `agents/*.md` (PIPE-7), and which paths a run's commits may touch (PIPE-4).

use super::frontmatter::{Document, Read, read};
use super::ids::Key;
use super::protected::glob;
use super::stage::{Agent, Stage};

/// One agent's file. Its globs and its body may name the work item by [`KEY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPrompt {
    pub name: Agent,
    pub description: String,
    pub stage: Stage,
    /// Paths in the repository, to orient the reader.
    pub reads: Vec<String>,
    /// The files the run must leave; `{key}` and patterns allowed.
    pub writes: Vec<String>,
    /// Globs of all it may change; at least one.
    pub may_write: Vec<String>,
    pub body: String,
}

/// The placeholder for the work item's key.
pub const KEY: &str = "{key}";

const NAMES: &[&str] = &["name", "description", "stage", "reads", "writes", "may_write"];

/// The built-in file.
pub fn builtin_text(agent: Agent) -> &'static str {
    match agent {
        Agent::Analyst => include_str!("../../agents/analyst.md"),
        Agent::Architect => include_str!("../../agents/architect.md"),
        Agent::Developer => include_str!("../../agents/developer.md"),
        Agent::Reviewer => include_str!("../../agents/reviewer.md"),
        Agent::Tester => include_str!("../../agents/tester.md"),
        Agent::Deployer => include_str!("../../agents/deployer.md"),
    }
}

impl AgentPrompt {
    /// The built-in prompt, used where the configured folder has none.
    pub fn builtin(agent: Agent) -> Result<Self, String> {
        Self::parse(agent, builtin_text(agent).as_bytes())
    }

    /// Reads `<agent>.md`. Fails with the file's name, what was expected, and the way out. A `model` is refused, since
    /// only the configuration sets it.
    pub fn parse(agent: Agent, bytes: &[u8]) -> Result<Self, String> {
        let file = format!("{agent}.md");
        let doc = match read(bytes) {
            Read::Document(doc) => doc,
            Read::Absent => {
                return Err(format!("{file}: no front matter; start it with a `---` line and `name: {agent}`"));
            }
            Read::Broken(why) => return Err(format!("{file}: {why}")),
        };
        Self::of(agent, doc).map_err(|why| format!("{file}: {why}"))
    }

    fn of(agent: Agent, doc: Document) -> Result<Self, String> {
        if let Some((name, _)) = doc.fields.iter().find(|(n, _)| !NAMES.contains(&n.as_str())) {
            let name: String = name.chars().take(60).collect();
            return Err(match name.as_str() {
                "model" | "effort" | "fallback_model" => {
                    format!("`{name}` is not allowed here; set `agents.overrides.{agent}.{name}` in the configuration")
                }
                _ => format!("`{name}` is not known; expected only {}", NAMES.join(", ")),
            });
        }
        let text = |name: &str| doc.text(name).ok_or_else(|| format!("`{name}` is missing"));
        if text("name")? != agent.as_str() {
            return Err(format!("`name` must be {agent}"));
        }
        let stage = Stage::parse(text("stage")?)
            .filter(|s| s.agent() == Some(agent))
            .ok_or_else(|| format!("`stage` must be the stage that the {agent} works"))?;
        let may_write = doc.list("may_write");
        if may_write.is_empty() {
            return Err("`may_write` is missing; list the globs it may change, `\"**\"` for all".to_owned());
        }
        for pattern in &may_write {
            glob(&pattern.replace(KEY, "KEY-1")).map_err(|e| format!("`may_write`: {e}"))?;
        }
        if doc.body.trim().is_empty() {
            return Err("the instruction below the front matter is empty".to_owned());
        }
        Ok(Self {
            name: agent,
            description: text("description")?.to_owned(),
            stage,
            reads: doc.list("reads"),
            writes: doc.list("writes"),
            may_write,
            body: doc.body.trim().to_owned(),
        })
    }

    /// What a run for this work item may change.
    pub fn may_write_globs(&self, key: &Key) -> Vec<String> {
        keyed(&self.may_write, key)
    }

    /// The files it must leave for this work item.
    pub fn writes_for(&self, key: &Key) -> Vec<String> {
        keyed(&self.writes, key)
    }

    /// The prompt with the work item's key in it.
    pub fn body_for(&self, key: &Key) -> String {
        self.body.replace(KEY, key.as_str())
    }
}

fn keyed(patterns: &[String], key: &Key) -> Vec<String> {
    patterns.iter().map(|p| p.replace(KEY, key.as_str())).collect()
}

/// The paths that no glob of `allowed` covers, in the given order: a run may not have changed them. Fails closed: an
/// unreadable glob allows nothing, and a path that is not a plain relative one counts as an offence.
pub fn offending_paths(allowed: &[String], paths: &[String]) -> Vec<String> {
    let allowed: Vec<_> = allowed.iter().filter_map(|p| Some(glob(p).ok()?.compile_matcher())).collect();
    let offends = |path: &&String| {
        let plain = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git"));
        !plain || !allowed.iter().any(|g| g.is_match(path))
    };
    paths.iter().filter(offends).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::artefact::{Artefact, folder, validate};

    fn key() -> Key {
        Key::parse("ORCH-1").unwrap()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn offending(agent: Agent, paths: &[&str]) -> Vec<String> {
        let prompt = AgentPrompt::builtin(agent).unwrap();
        offending_paths(&prompt.may_write_globs(&key()), &strings(paths))
    }

    #[test]
    fn the_six_files_are_complete_and_name_no_model() {
        for agent in Agent::ALL {
            let prompt = AgentPrompt::builtin(*agent).unwrap();
            assert_eq!(prompt.stage.agent(), Some(*agent));
            assert!(!prompt.reads.is_empty() && !prompt.description.is_empty());
            let Read::Document(doc) = read(builtin_text(*agent).as_bytes()) else { panic!() };
            assert!(doc.field("model").is_none(), "{agent}: configuration is the only source of the model");
        }
    }

    #[test]
    fn each_agent_writes_what_the_table_asks_of_its_stage() {
        for agent in Agent::ALL {
            let prompt = AgentPrompt::builtin(*agent).unwrap();
            let want: Vec<String> =
                Artefact::of_stage(prompt.stage).map(|a| format!("{}/{a}", folder(&key()))).collect();
            assert_eq!(prompt.writes_for(&key()), want, "{agent}");
        }
    }

    #[test]
    fn the_examples_in_the_prompts_are_valid_artefacts() {
        for agent in Agent::ALL {
            let prompt = AgentPrompt::builtin(*agent).unwrap();
            let body = prompt.body_for(&key());
            let examples: Vec<&str> =
                body.split("```markdown\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
            assert_eq!(examples.is_empty(), prompt.writes.is_empty(), "{agent}");
            for example in examples {
                let Read::Document(doc) = read(example.as_bytes()) else { panic!("{agent}: {example}") };
                let artefact = Artefact::of_stage(prompt.stage).next().unwrap();
                assert_eq!(validate(artefact, &doc, &key()), Vec::<String>::new(), "{agent}: {example}");
            }
            for artefact in Artefact::of_stage(prompt.stage) {
                for name in artefact.schema().verdict.iter().chain(artefact.schema().values) {
                    assert!(body.contains(name), "{agent}: {name}");
                }
            }
        }
    }

    #[test]
    fn agents_may_change_their_own_paths_only() {
        let mine = "docs/work-items/ORCH-1/12-review.md";
        let others = ["docs/work-items/ORCH-12/12-review.md", "docs/work-items/README.md", "src/a.rs"];
        for agent in [Agent::Analyst, Agent::Architect, Agent::Reviewer, Agent::Deployer] {
            assert_eq!(offending(agent, &[mine]), Vec::<String>::new());
            assert_eq!(offending(agent, &others), others);
            assert_eq!(offending(agent, &["tests/a.rs"]), ["tests/a.rs"]);
        }
        let tests = [
            mine,
            "tests/a/b.rs",
            "test/x.py",
            "web/src/__tests__/a.tsx",
            "pkg/testdata/a.json",
            "src/test/java/A.java",
            // Next to the code, where the language's tools recognise the name as a test's and as nothing else.
            "pkg/load_test.go",
            "web/src/a.test.tsx",
            "src/a.spec.js",
        ];
        assert_eq!(offending(Agent::Tester, &tests), Vec::<String>::new());
        assert_eq!(offending(Agent::Tester, &others), others);
        // A name that merely resembles a test's may be product code.
        let product = [
            "src/latest.rs",
            "src/test_mode.py",
            "src/load_test.py",
            "src/test_a.go",
            "src/a.test.json",
            "conftest.py",
        ];
        assert_eq!(offending(Agent::Tester, &product), product);
        assert_eq!(offending(Agent::Developer, &["src/a.rs", ".gitignore", mine]), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_plain_path_offends_always() {
        let all = ["../x", "/etc/x", "a//b", "a/.git/config", ""];
        assert_eq!(offending(Agent::Developer, &all), all);
        assert_eq!(offending_paths(&strings(&["["]), &strings(&["a"])), ["a"]);
    }

    #[test]
    fn a_prompt_that_can_not_be_used_says_why() {
        let good = builtin_text(Agent::Reviewer);
        for (bad, why) in [
            (good.replace("name: reviewer", "name: reviewer\nmodel: x"), "configuration"),
            (good.replace("name: reviewer", "name: tester"), "`name` must be reviewer"),
            (good.replace("stage: review", "stage: testing"), "`stage`"),
            (good.replace("may_write:", "might_write:"), "`might_write` is not known"),
            (good.replace("may_write:\n  - docs/work-items/{key}", "may_write:\n  - docs/work-items/["), "may_write"),
            ("text".to_owned(), "no front matter"),
            (String::from("---\nname: reviewer\nstage: review\nmay_write: a\n---\n"), "empty"),
        ] {
            let got = AgentPrompt::parse(Agent::Reviewer, bad.as_bytes()).unwrap_err();
            assert!(got.contains("reviewer.md") && got.contains(why), "{got}");
        }
    }
}
