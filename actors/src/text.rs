//! Texts that many objects share: names of labels, clusters, cells. Each is kept once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The shared texts, and how many there were after the last clean-up.
static SHARED: Mutex<(BTreeSet<Arc<str>>, usize)> = Mutex::new((BTreeSet::new(), 0));

/// Fewer texts than this are never looked through for unused ones.
const FEW: usize = 1024;

/// The one copy of `text`.
///
/// Texts that nobody holds any more go when their number has doubled since the last time, so what deleted clusters leave is
/// bounded by what lives.
pub fn shared(text: &str) -> Arc<str> {
    let mut guard = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let (texts, kept) = &mut *guard;
    if let Some(known) = texts.get(text) {
        return known.clone();
    }
    if texts.len() >= FEW.max(*kept * 2) {
        texts.retain(|known| Arc::strong_count(known) > 1);
        *kept = texts.len();
    }
    let text: Arc<str> = text.into();
    texts.insert(text.clone());
    text
}

/// Labels or annotations: sorted pairs of shared texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts(Box<[(Arc<str>, Arc<str>)]>);

impl Texts {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(known, _)| (**known).cmp(name));
        index
            .ok()
            .and_then(|index| self.0.get(index))
            .map(|(_, value)| &**value)
    }

    /// All pairs, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Memory of the pairs; the texts are shared.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Texts {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(name, value)| (shared(name.as_ref()), shared(value.as_ref())))
            .collect();
        pairs.sort();
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(pairs.into())
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once() {
        assert!(Arc::ptr_eq(&shared("zone-a"), &shared("zone-a")));
    }

    #[test]
    fn texts_that_nobody_holds_go() {
        let held = shared("held");
        for number in 0..FEW * 8 {
            shared(&format!("passing-{number}"));
        }
        let count = SHARED.lock().unwrap().0.len();
        assert!(count <= FEW * 3, "{count} texts are kept");
        assert!(Arc::ptr_eq(&held, &shared("held")));
    }

    #[test]
    fn values_are_found_by_name() {
        let texts: Texts = [("b", "2"), ("a", "1")].into_iter().collect();
        assert_eq!(
            (texts.get("a"), texts.get("b"), texts.get("c")),
            (Some("1"), Some("2"), None)
        );
        assert_eq!(texts.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    }
}
