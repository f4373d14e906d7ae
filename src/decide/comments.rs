//! Which comments on a work item go into a prompt (GH-2): those that people with write permission made since the last
//! run. Everything else is nobody's word. Pure.

use crate::model::comment::{Comment, ReadTo, Shown, Writer};
use std::collections::BTreeSet;

/// A prompt contains at most this many, the newest.
pub const MOST: usize = 30;

/// From where a run reads. A repeated run of the same work reads what the one before it read, which may not have
/// counted; other work continues after it.
pub fn from(last: Option<&Shown>, work: &str) -> ReadTo {
    match last {
        None => ReadTo::default(),
        Some(last) if last.work == work => last.from.clone(),
        Some(last) => last.to.clone(),
    }
}

/// Of how many comments the authors are looked up at most, newest first: anybody may comment on a public repository.
pub const LOOKED_UP: usize = 100;

/// The people whose permission has to be asked for: authors of the newest comments in question. Nobody else's count.
pub fn authors<'c>(comments: &'c [Comment], from: &ReadTo) -> BTreeSet<&'c str> {
    let mut asked: Vec<&Comment> = comments.iter().filter(|c| in_question(c, from)).collect();
    asked.sort_by_key(|c| std::cmp::Reverse((c.updated_ms, c.id)));
    asked.into_iter().take(LOOKED_UP).map(|c| c.author.as_str()).collect()
}

/// Programs and `orch` itself are never read, nor is a comment without an author.
fn in_question(c: &Comment, from: &ReadTo) -> bool {
    let seen = c.updated_ms < from.updated_ms || c.updated_ms == from.updated_ms && from.ids.contains(&c.id);
    !seen && c.writer == Writer::Person && !c.author.is_empty()
}

/// What a prompt shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Oldest first.
    pub comments: Vec<Comment>,
    /// How many older ones are not shown.
    pub left_out: usize,
    /// What is stored for the next run.
    pub shown: Shown,
}

/// Chooses among the comments that the board lists. `may`: whether a person may write to the repository now.
pub fn read(comments: Vec<Comment>, from: ReadTo, work: &str, may: &dyn Fn(&str) -> bool) -> Read {
    let newest = comments.iter().map(|c| c.updated_ms).max().unwrap_or(0);
    let to = if newest < from.updated_ms {
        from.clone()
    } else {
        let ids = comments.iter().filter(|c| c.updated_ms == newest).map(|c| c.id).collect();
        ReadTo { updated_ms: newest, ids }
    };
    let mut chosen: Vec<Comment> = comments.into_iter().filter(|c| in_question(c, &from) && may(&c.author)).collect();
    chosen.sort_by_key(|c| (c.updated_ms, c.id));
    let left_out = chosen.len().saturating_sub(MOST);
    drop(chosen.drain(..left_out));
    Read { comments: chosen, left_out, shown: Shown { work: work.to_owned(), from, to } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(id: u64, author: &str, writer: Writer, updated_ms: i64) -> Comment {
        Comment { id, author: author.to_owned(), writer, updated_ms, text: format!("text {id}") }
    }

    fn ids(read: &Read) -> Vec<u64> {
        read.comments.iter().map(|c| c.id).collect()
    }

    #[test]
    fn gh_2_only_people_who_may_write_are_read() {
        let (person, program, own) = (Writer::Person, Writer::Program, Writer::Orch);
        for (author, writer, may, shown) in [
            ("ann", person, true, true),
            ("triager", person, false, false),
            ("dep[bot]", program, true, false),
            // A person who acts through an App is a program.
            ("ann", program, true, false),
            ("orch", own, true, false),
            ("", person, true, false),
        ] {
            let all = vec![comment(1, author, writer, 5)];
            let asked = authors(&all, &ReadTo::default()).len();
            assert_eq!(asked, usize::from(writer == person && !author.is_empty()), "{author}");
            let read = read(all, ReadTo::default(), "w", &|_| may);
            assert_eq!(!read.comments.is_empty(), shown, "{author} {writer}");
            assert_eq!(read.shown.to, ReadTo { updated_ms: 5, ids: vec![1] }, "read all the same: {author}");
        }
    }

    #[test]
    fn gh_2_work_that_is_repeated_reads_again_and_other_work_goes_on() {
        let ann = |id, at| comment(id, "ann", Writer::Person, at);
        let first = read(vec![ann(1, 10), ann(2, 20)], from(None, "analysis/1"), "analysis/1", &|_| true);
        assert_eq!(ids(&first), [1, 2]);
        // One more came, in the same second as the newest.
        let all = || vec![ann(1, 10), ann(2, 20), ann(3, 20)];
        let again = read(all(), from(Some(&first.shown), "analysis/1"), "analysis/1", &|_| true);
        assert_eq!(ids(&again), [1, 2, 3], "the first run may not have counted");
        let next = read(all(), from(Some(&first.shown), "development/1"), "development/1", &|_| true);
        assert_eq!(ids(&next), [3]);
        // An empty list, as from a server that lags, moves nothing back.
        let none = read(vec![], from(Some(&next.shown), "review/1"), "review/1", &|_| true);
        assert_eq!((none.comments.len(), &none.shown.to), (0, &next.shown.to));
        // A comment that was edited later is read as it is now.
        let edited = read(vec![ann(1, 30)], from(Some(&next.shown), "review/1"), "review/1", &|_| true);
        assert_eq!(ids(&edited), [1]);
    }

    #[test]
    fn a_crowd_of_strangers_costs_a_bounded_number_of_questions() {
        let one = |n: u64| comment(n, &format!("p{n}"), Writer::Person, 100 + i64::try_from(n).unwrap());
        let all: Vec<Comment> = (0..1000).map(one).collect();
        let asked = authors(&all, &ReadTo::default());
        assert_eq!((asked.len(), asked.contains("p999"), asked.contains("p0")), (LOOKED_UP, true, false));
    }

    #[test]
    fn the_newest_are_shown_oldest_first() {
        let many = (0..40).rev().map(|n| comment(n, "ann", Writer::Person, 100 + i64::try_from(n).unwrap())).collect();
        let read = read(many, ReadTo::default(), "w", &|_| true);
        assert_eq!((read.comments.len(), read.left_out, read.comments[0].id, read.comments[29].id), (MOST, 10, 10, 39));
    }
}
