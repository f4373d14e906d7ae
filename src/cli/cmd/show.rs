//! `orch show` (ORD-5).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::engine::show;
use crate::model::shown::{Shown, ShownDocument};
use crate::model::text::visible;
use crate::render::shown::page;

/// Show what a task waits for, and the documents to read before you answer
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch show ORCH-17\n  orch show ORCH-17 01\n  orch show ORCH-17 04-test-plan.md")]
pub struct Args {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK")]
    task: String,
    /// Print one document, by its number or name
    #[arg(value_name = "NUMBER|NAME")]
    document: Option<String>,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "show")?;
    let task = open::task(&mut ctx, &args.task)?;
    let mut shown = show::task(&mut ctx, &task)?;
    if let Some(wanted) = &args.document {
        let document = chosen(&shown, wanted)?;
        if !call.out.is_json() {
            call.out.page(&visible(&document.text));
            return Ok(Exit::Done);
        }
        shown.documents = vec![document.clone()];
    }
    if call.out.is_json() {
        call.out.document(&shown);
    } else {
        call.out.page(&page(&shown));
    }
    Ok(Exit::Done)
}

/// The one document that a number (`1`, `01`, `ADR-002`) or a name (with or without extension) identifies.
fn chosen<'a>(shown: &'a Shown, wanted: &str) -> Result<&'a ShownDocument, Failure> {
    let named: Vec<&ShownDocument> = shown.documents.iter().filter(|d| is(&d.name, wanted)).collect();
    match named.as_slice() {
        [one] => Ok(one),
        several => {
            let all: Vec<&str> = shown.documents.iter().map(|d| d.name.as_str()).collect();
            let hint = match (all.is_empty(), several.len()) {
                (true, _) => "it has no documents yet".to_owned(),
                (false, 0) => format!("its documents: {}", all.join(", ")),
                (false, _) => {
                    let names: Vec<&str> = several.iter().map(|d| d.name.as_str()).collect();
                    format!("name one of {}", names.join(", "))
                }
            };
            let what = if several.is_empty() { "no document" } else { "more than one document" };
            Err(Failure::usage(format!("{} has {what} {wanted:?}", shown.key)).task(shown.key.to_string()).hint(hint))
        }
    }
}

fn is(name: &str, wanted: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    if [name, file].iter().any(|n| *n == wanted || n.strip_suffix(".md") == Some(wanted)) {
        return true;
    }
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    match number(wanted) {
        Some(n) => name.split('-').next().and_then(number) == Some(n),
        None => wanted.starts_with("ADR-") && file.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-')),
    }
}

#[cfg(test)]
mod tests {
    use super::is;

    #[test]
    fn a_document_is_named_by_number_or_name() {
        let table = [
            ("01-brief.md", "1", true),
            ("01-brief.md", "01", true),
            ("01-brief.md", "01-brief", true),
            ("01-brief.md", "01-brief.md", true),
            ("12-review.md", "1", false),
            ("06-adr/ADR-001-one.md", "6", true),
            ("06-adr/ADR-001-one.md", "ADR-001", true),
            ("06-adr/ADR-001-one.md", "ADR-001-one", true),
            ("06-adr/ADR-001-one.md", "ADR-00", false),
            ("01-brief.md", "", false),
        ];
        for (name, wanted, same) in table {
            assert_eq!(is(name, wanted), same, "{name} {wanted:?}");
        }
    }
}
