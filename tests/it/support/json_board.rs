//! A board of a third kind, thrown away after the tests: every work item in one JSON file. It shows what a kind has to bring
//! (`adapters::board::Board`, nothing else), and that what every board owes its callers asks for nothing more.

use orch::adapters::board::{Board, BoardError, Doer, Listing, Move, Moved, NewItem, Scope};
use orch::model::board::{Deed, ItemRef, Label, Logical, Status, WorkItem, local_statuses};
use orch::model::ids::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug)]
pub struct JsonBoard {
    pub file: PathBuf,
    pub key: String,
    pub statuses: BTreeMap<Logical, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct All {
    items: Vec<WorkItem>,
    /// Key and marker.
    comments: Vec<(Key, String)>,
    /// Marker and key.
    made: BTreeMap<String, Key>,
}

impl JsonBoard {
    fn read(&self) -> Result<All, BoardError> {
        let Ok(text) = std::fs::read(&self.file) else { return Ok(All::default()) };
        serde_json::from_slice(&text).map_err(|e| BoardError::Transient(e.to_string()))
    }

    fn write(&self, all: &All) -> Result<(), BoardError> {
        let text = serde_json::to_vec(all).map_err(|e| BoardError::Invalid(e.to_string()))?;
        std::fs::write(&self.file, text).map_err(|e| BoardError::Transient(e.to_string()))
    }
}

impl Board for JsonBoard {
    fn statuses(&self) -> Result<Vec<Status>, BoardError> {
        Ok(local_statuses(&self.statuses))
    }

    fn labels(&self) -> Result<Vec<Label>, BoardError> {
        let names = self.read()?.items.into_iter().flat_map(|i| i.labels);
        Ok(names.map(|name| Label { id: name.clone(), name }).collect())
    }

    fn list(&self, _: &[Status], _: &Scope<'_>, _: &dyn Fn() -> bool) -> Result<Listing, BoardError> {
        Ok(Listing { items: self.read()?.items, ..Listing::default() })
    }

    fn get(&self, _: &[Status], key: &Key) -> Result<Option<WorkItem>, BoardError> {
        Ok(self.read()?.items.into_iter().find(|i| i.key == *key))
    }

    fn set_status(&self, _: &[Status], item: &WorkItem, change: &Move<'_>) -> Result<Moved, BoardError> {
        let mut all = self.read()?;
        let Some(now) = all.items.iter_mut().find(|i| i.key == item.key) else { return Ok(Moved::Withdrawn) };
        if now.status_id == change.to.id {
            return Ok(Moved::Already(now.clone()));
        }
        if change.expect.is_some_and(|e| e != now.status_id) {
            return Ok(Moved::Held(now.clone()));
        }
        (now.status_id, now.group) = (change.to.id.clone(), change.to.group);
        (now.status_name, now.updated_ms) = (Some(change.to.name.clone()), change.now_ms);
        let moved = Moved::Set(now.clone());
        self.write(&all).map(|()| moved)
    }

    fn comment(&self, item: &WorkItem, marker: &str, _text: &str, _now_ms: i64) -> Result<bool, BoardError> {
        let mut all = self.read()?;
        let said = (item.key.clone(), marker.to_owned());
        if all.comments.contains(&said) {
            return Ok(false);
        }
        all.comments.push(said);
        self.write(&all).map(|()| true)
    }

    fn who(&self, key: &Key, _: &str, _: &Deed<'_>) -> Result<Option<Doer>, BoardError> {
        Ok(self.get(&[], key)?.and_then(|item| item.changed_by).map(Doer::named))
    }

    fn blocked_by(&self, item: &WorkItem) -> Result<Vec<ItemRef>, BoardError> {
        Ok(self.get(&[], &item.key)?.and_then(|item| item.blocked_by).unwrap_or_default())
    }

    fn create(&self, new: &NewItem<'_>) -> Result<Key, BoardError> {
        let mut all = self.read()?;
        if let Some(key) = new.marker.and_then(|marker| all.made.get(marker)) {
            return Ok(key.clone());
        }
        let key = Key::parse(&format!("{}-{}", self.key, all.items.len() + 1))
            .map_err(|e| BoardError::Invalid(e.to_string()))?;
        all.made.extend(new.marker.map(|marker| (marker.to_owned(), key.clone())));
        all.items.push(WorkItem {
            id: key.to_string(),
            key: key.clone(),
            title: new.title.to_owned(),
            body: Some(new.body.to_owned()),
            labels: new.labels.to_vec(),
            priority: new.priority,
            status_id: new.status.id.clone(),
            status_name: Some(new.status.name.clone()),
            group: new.status.group,
            blocked_by: Some(new.blocked_by.iter().cloned().map(ItemRef::Key).collect()),
            created_ms: new.now_ms,
            updated_ms: new.now_ms,
            changed_by: None,
        });
        self.write(&all).map(|()| key)
    }
}
