//! The calls that update one task's card in a chat that can't be asked what was sent (NTF-1, RULE-41). Pure.

use super::card::Card;
use super::stage::{Stage, words};
use sha2::{Digest, Sha256};

/// Telegram deletes nothing older than 48 hours; one hour less, because there are two clocks.
const DELETABLE_MS: i64 = 47 * 3_600_000;

words! {
    /// How a card follows its task (`notify.telegram.mode`).
    CardMode { Bump = "bump", Edit = "edit" }
}

/// The message that contains a task's card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCard {
    pub message_id: i64,
    /// Wall milliseconds of its sending.
    pub sent_at: i64,
    /// What it shows; `None`: the placeholder, nothing yet.
    pub shown: Option<Shown>,
}

/// What a card shows, as far as its delivery differs. Stored in one column of the card's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Names the stay in a stage (`review/7`): another one bumps the card. Without `#`.
    pub place: String,
    /// Of the text.
    pub hash: String,
}

impl Shown {
    /// What `card` shows in the stay `epoch` of `stage`.
    pub fn of(stage: Stage, epoch: i64, card: &Card) -> Self {
        let digest = Sha256::digest(card.html.as_bytes());
        let hash = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        Self { place: format!("{stage}/{epoch}"), hash }
    }

    /// For the row: empty for a placeholder.
    pub fn to_column(shown: Option<&Self>) -> String {
        shown.map_or_else(String::new, |s| format!("{}#{}", s.place, s.hash))
    }

    /// From the row. Anything malformed counts as a placeholder, which is merely edited again.
    pub fn from_column(text: &str) -> Option<Self> {
        let (place, hash) = text.split_once('#')?;
        Some(Self { place: place.to_owned(), hash: hash.to_owned() })
    }
}

/// What changed since the card was last shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardChange {
    /// The text is the same.
    Nothing,
    /// A number or a mark; or the card is still the placeholder of a delivery that was cut short.
    Detail,
    /// Another stage.
    Stage,
}

/// Compares what to show with what is shown.
pub fn change(stored: &StoredCard, wanted: &Shown) -> CardChange {
    match &stored.shown {
        None => CardChange::Detail,
        Some(shown) if shown.place != wanted.place => CardChange::Stage,
        Some(shown) if shown.hash != wanted.hash => CardChange::Detail,
        Some(_) => CardChange::Nothing,
    }
}

/// One call to the sink; they are made in order, each recorded before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardStep {
    /// Deletes a message; one that is gone counts as deleted. If it can't be deleted: [`CardStep::Retire`].
    Delete { message_id: i64 },
    /// Edits a message that is too old to be deleted to one line.
    Retire { message_id: i64 },
    /// Sends the one-line placeholder; its id is recorded before anything else (RULE-41).
    Placeholder,
    /// Edits the recorded message into the card. If it is gone: [`CardStep::Placeholder`], then this again.
    Fill,
}

/// The calls that update a card. The old message is deleted first: this order leaves at most one orphan per kill, the
/// placeholder whose id was not recorded. (In the other order, a kill after recording the new one would leave the old
/// one whole, and nothing would know of it.)
pub fn card_steps(stored: Option<&StoredCard>, wanted: &Shown, mode: CardMode, now_ms: i64) -> Vec<CardStep> {
    let Some(stored) = stored else { return vec![CardStep::Placeholder, CardStep::Fill] };
    match (change(stored, wanted), mode) {
        (CardChange::Nothing, CardMode::Bump | CardMode::Edit) => vec![],
        (CardChange::Detail, CardMode::Bump | CardMode::Edit) | (CardChange::Stage, CardMode::Edit) => {
            vec![CardStep::Fill]
        }
        (CardChange::Stage, CardMode::Bump) => {
            let message_id = stored.message_id;
            let young = now_ms.saturating_sub(stored.sent_at) < DELETABLE_MS;
            let away = if young { CardStep::Delete { message_id } } else { CardStep::Retire { message_id } };
            vec![away, CardStep::Placeholder, CardStep::Fill]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(place: &str, hash: &str) -> Shown {
        Shown { place: place.into(), hash: hash.into() }
    }

    #[test]
    fn a_card_is_deleted_while_it_can_be_and_retired_after() {
        use CardMode::{Bump, Edit};
        let stored = StoredCard { message_id: 7, sent_at: 0, shown: Some(shown("review/1", "a")) };
        let (same, detail, stage) = (shown("review/1", "a"), shown("review/1", "b"), shown("testing/2", "b"));
        let fresh = [CardStep::Placeholder, CardStep::Fill];
        assert_eq!(card_steps(None, &same, Edit, 0), fresh);
        assert_eq!(card_steps(Some(&stored), &same, Bump, 0), []);
        assert_eq!(card_steps(Some(&stored), &detail, Bump, 0), [CardStep::Fill]);
        assert_eq!(card_steps(Some(&stored), &stage, Edit, i64::MAX), [CardStep::Fill]);
        let delete = CardStep::Delete { message_id: 7 };
        assert_eq!(card_steps(Some(&stored), &stage, Bump, 5), [delete, CardStep::Placeholder, CardStep::Fill]);
        let old = card_steps(Some(&stored), &stage, Bump, 48 * 3_600_000);
        assert_eq!(old.first(), Some(&CardStep::Retire { message_id: 7 }));
    }

    #[test]
    fn an_unfilled_placeholder_is_filled_and_never_bumped() {
        let stored = StoredCard { message_id: 7, sent_at: 0, shown: None };
        assert_eq!(card_steps(Some(&stored), &shown("a/1", "x"), CardMode::Bump, 5), [CardStep::Fill]);
    }

    #[test]
    fn text_stage_and_stay_make_the_difference() {
        let card = |html: &str| Card { html: html.into(), plain: String::new() };
        let one = Shown::of(Stage::Review, 3, &card("x"));
        assert_eq!(one, Shown::of(Stage::Review, 3, &card("x")));
        assert_eq!((one.place.as_str(), one.hash.len()), ("review/3", 32));
        let stored = StoredCard { message_id: 1, sent_at: 0, shown: Some(one) };
        assert_eq!(change(&stored, &Shown::of(Stage::Review, 3, &card("y"))), CardChange::Detail);
        assert_eq!(change(&stored, &Shown::of(Stage::Review, 5, &card("x"))), CardChange::Stage);
        assert_eq!(change(&stored, &Shown::of(Stage::Testing, 3, &card("x"))), CardChange::Stage);
    }

    #[test]
    fn the_column_gives_back_what_was_put_in() {
        let s = shown("deploy-staging/12", "00ff");
        assert_eq!(Shown::from_column(&Shown::to_column(Some(&s))), Some(s));
        assert_eq!(Shown::to_column(None), "");
        for invalid in ["", "00ff", "nothing"] {
            assert_eq!(Shown::from_column(invalid), None, "{invalid}");
        }
    }
}
