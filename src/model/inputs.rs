//! Verdict inputs (BND-5): what decides the meaning of CI and differs between base and head. Found by `decide::inputs`,
//! shown first to the reviewer and to the person who confirms a deploy.

use super::text::{clip, defused};
use serde::{Deserialize, Serialize};

/// A path that decides what a green CI means, and why it does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Input {
    pub path: String,
    pub why: String,
}

/// How many are stored in a row and shown in a prompt; the last one then says how many more there are.
pub const MOST: usize = 200;

/// At most `most` of them; if there are more, the last one says how many are left out.
pub fn first(inputs: &[Input], most: usize) -> Vec<Input> {
    if inputs.len() <= most {
        return inputs.to_vec();
    }
    let kept = most.saturating_sub(1);
    let mut shown: Vec<Input> = inputs.iter().take(kept).cloned().collect();
    shown.push(Input { path: "…".to_owned(), why: format!("and {} more", inputs.len() - kept) });
    shown
}

/// One line for a card or an alert, of about `most` characters at most: `Makefile (build definition); …`. Paths are a
/// branch's own words: cut, with terminal control characters spelled out, and without mentions.
pub fn line(inputs: &[Input], most: usize) -> String {
    let mut text = String::new();
    for (n, input) in inputs.iter().enumerate() {
        let one = format!("{} ({})", clip(&defused(&input.path), 80), clip(&defused(&input.why), 120));
        let left = inputs.len() - n;
        if n > 0 && text.chars().count() + one.chars().count() > most {
            text.push_str(&format!("; and {left} more"));
            break;
        }
        if n > 0 {
            text.push_str("; ");
        }
        text.push_str(&one);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str) -> Input {
        Input { path: path.to_owned(), why: "build definition".to_owned() }
    }

    #[test]
    fn a_long_list_says_how_much_it_leaves_out() {
        let all: Vec<Input> = (0..10).map(|n| input(&format!("{n}/Makefile"))).collect();
        assert_eq!(line(&all[..1], 10), "0/Makefile (build definition)");
        assert_eq!(line(&all, 70), "0/Makefile (build definition); 1/Makefile (build definition); and 8 more");
        assert_eq!(line(&[], 70), "");
        assert_eq!(first(&all, 10).len(), 10);
        let few = first(&all, 4);
        assert_eq!((few.len(), few[3].why.as_str()), (4, "and 7 more"));
    }
}
