//! Objects of another operator beside ours: every difference is listed with its reason, or the test fails.

use std::collections::{BTreeMap, BTreeSet};

use actors::object::{Desired, Kind};
use serde_json::{Value, json};

/// Objects by kind and name.
pub type Objects = BTreeMap<(&'static str, String), Value>;

/// The kind of a manifest.
fn kind_of(body: &Value) -> &'static str {
    let mut kinds = Kind::ALL.iter().map(|kind| kind.name());
    kinds.find(|kind| body["kind"] == *kind).unwrap()
}

/// Manifests by kind and name.
pub fn documented(documents: Vec<Value>) -> Objects {
    let name = |body: &Value| body["metadata"]["name"].as_str().unwrap().to_owned();
    let keyed = documents
        .into_iter()
        .map(|body| ((kind_of(&body), name(&body)), body));
    keyed.collect()
}

/// Desired objects by kind and name.
pub fn desired(objects: Vec<Desired>) -> Objects {
    let keyed = objects.into_iter().map(|object| {
        (
            (object.key.kind.name(), object.key.name.to_string()),
            object.body.into(),
        )
    });
    keyed.collect()
}

fn segment(pattern: &str, segment: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == segment, |start| segment.starts_with(start))
}

fn matches(pattern: &str, path: &[String]) -> bool {
    let pattern: Vec<&str> = pattern.split(' ').collect();
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(p, s)| segment(p, s))
}

fn ends(pattern: &str, path: &[String]) -> bool {
    let length = pattern.split(' ').count();
    path.len() >= length && matches(pattern, &path[path.len() - length..])
}

/// A difference: where, what the Go operator has, what we have.
struct Difference {
    kind: &'static str,
    name: String,
    path: Vec<String>,
    go: Option<Value>,
    ours: Option<Value>,
}

/// What is not told as a difference, or told with a reason.
pub struct Lists {
    /// Set by the API server or a controller, never part of a manifest; counts only where we are silent: (kind, path).
    /// Segments are separated by blanks; `*` stands for one segment, `x*` for one that begins with x. An empty kind means all.
    pub server: &'static [(&'static str, &'static str)],
    /// What Kubernetes fills in where we are silent: (kind, end of the path, value as JSON).
    pub defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Where we differ on purpose: kind, path, reason. An entry that explains nothing fails the test.
    pub different: Vec<(&'static str, &'static str, &'static str)>,
}

struct Comparison<'a> {
    lists: &'a Lists,
    unexplained: Vec<String>,
    explained: BTreeSet<usize>,
    ignored: BTreeSet<usize>,
    defaulted: BTreeSet<usize>,
}

/// Items of a list by what identifies them, so that one more argument is one difference.
fn items(list: &[Value]) -> Vec<(String, Value)> {
    let mut result: Vec<(String, Value)> = Vec::new();
    let mut rest = list.iter().enumerate().peekable();
    while let Some((at, item)) = rest.next() {
        let pair = if let Some(text) = item.as_str() {
            if let Some((flag, value)) = text.split_once('=').filter(|_| text.starts_with("--")) {
                (flag.to_owned(), format!("={value}").into())
            } else if text.starts_with("--")
                && let Some((_, value)) =
                    rest.next_if(|(_, v)| v.as_str().is_some_and(|v| !v.starts_with("--")))
            {
                (text.to_owned(), value.clone())
            } else {
                (text.to_owned(), json!(true))
            }
        } else {
            let name = ["mountPath", "name", "key"]
                .iter()
                .find_map(|key| item.get(key)?.as_str());
            let name = name.or_else(|| item.pointer("/metadata/name")?.as_str());
            (
                name.map_or_else(|| at.to_string(), str::to_owned),
                item.clone(),
            )
        };
        assert!(
            result.iter().all(|(name, _)| *name != pair.0),
            "two items {} in {list:?}",
            pair.0
        );
        result.push(pair);
    }
    result
}

impl Comparison<'_> {
    fn compare(&mut self, found: Difference) {
        let Difference {
            kind,
            path,
            go,
            ours,
            ..
        } = &found;
        // Where the other side does not know the value, any will do.
        let unknown = go
            .as_ref()
            .and_then(Value::as_str)
            .is_some_and(|text| text.starts_with('<') && text.ends_with('>'));
        if go == ours || (unknown && ours.is_some()) {
            return;
        }
        let of = |wanted: &str| wanted.is_empty() || wanted == *kind;
        // A Service without address is a choice, any other address the server's.
        let headless =
            path.last().is_some_and(|at| at == "clusterIP") && *go == Some(json!("None"));
        let ignored = self
            .lists
            .server
            .iter()
            .position(|(k, p)| of(k) && matches(p, path));
        if let Some(at) = ignored.filter(|_| ours.is_none() && !headless) {
            self.ignored.insert(at);
            return;
        }
        if let (Some(go), None) = (go, ours) {
            let defaulted = self.lists.defaults.iter().position(|(k, p, default)| {
                of(k) && ends(p, path) && *go == serde_json::from_str::<Value>(default).unwrap()
            });
            if let Some(at) = defaulted {
                self.defaulted.insert(at);
                return;
            }
        }
        let explained = self
            .lists
            .different
            .iter()
            .position(|(kinds, p, _)| kinds.split('|').any(&of) && matches(p, path));
        if let Some(at) = explained {
            self.explained.insert(at);
            return;
        }
        let children = |value: &Option<Value>| match value {
            Some(Value::Object(map)) => Some(map.clone().into_iter().collect()),
            Some(Value::Array(list)) => Some(items(list)),
            None => Some(Vec::new()),
            Some(_) => None,
        };
        if let (Some(left), Some(right)) = (children(go), children(ours))
            && left.len() + right.len() > 0
        {
            self.lists(&found, left, right);
            return;
        }
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        self.unexplained.push(format!(
            "{kind} {} | {} | {} | {}",
            found.name,
            path.join(" "),
            text(go),
            text(ours)
        ));
    }

    fn lists(&mut self, at: &Difference, left: Vec<(String, Value)>, right: Vec<(String, Value)>) {
        let below = |name: &str, go, ours| Difference {
            kind: at.kind,
            name: at.name.clone(),
            path: at.path.iter().cloned().chain([name.to_owned()]).collect(),
            go,
            ours,
        };
        let common = |one: &[(String, Value)], other: &[(String, Value)]| -> Vec<Value> {
            let there = |name: &String| other.iter().any(|(n, _)| n == name);
            let names = one.iter().map(|(name, _)| name);
            names.filter(|n| there(n)).map(|n| json!(n)).collect()
        };
        let order = (common(&left, &right), common(&right, &left));
        if order.0 != order.1 {
            let text = |names: Vec<Value>| Some(json!(json!(names).to_string()));
            self.compare(below("(order)", text(order.0), text(order.1)));
        }
        let (left, mut right): (Vec<_>, BTreeMap<_, _>) = (left, right.into_iter().collect());
        for (name, go) in left {
            let ours = right.remove(&name);
            self.compare(below(&name, Some(go), ours));
        }
        for (name, ours) in right {
            self.compare(below(&name, None, Some(ours)));
        }
    }
}

/// Compares all objects of both sides, of which at least `least` must be on both.
pub fn compare(lists: &Lists, mut theirs: Objects, mut ours: Objects, least: usize) {
    let mut comparison = Comparison {
        lists,
        unexplained: Vec::new(),
        explained: BTreeSet::new(),
        ignored: BTreeSet::new(),
        defaulted: BTreeSet::new(),
    };
    let mut both = 0;
    let names: BTreeSet<(&str, String)> = theirs.keys().chain(ours.keys()).cloned().collect();
    for (kind, name) in names {
        let key = (kind, name.clone());
        let (other, own) = (theirs.remove(&key), ours.remove(&key));
        both += usize::from(other.is_some() && own.is_some());
        // An object that only one side has is one difference, at its name.
        let path = if other.is_some() && own.is_some() {
            Vec::new()
        } else {
            vec![name.clone()]
        };
        let whole = |side: Option<Value>| match (path.is_empty(), side) {
            (false, Some(_)) => Some(json!("(the whole object)")),
            (_, side) => side,
        };
        comparison.compare(Difference {
            kind,
            name,
            go: whole(other),
            ours: whole(own),
            path,
        });
    }
    assert!(
        comparison.unexplained.is_empty(),
        "{} unexplained (kind name | path | Go | ours):\n{}",
        comparison.unexplained.len(),
        comparison.unexplained.join("\n")
    );
    assert!(both >= least, "only {both} objects compared");
    let unused: Vec<String> = idle(&lists.different, &comparison.explained)
        .chain(idle(lists.defaults, &comparison.defaulted))
        .chain(idle(lists.server, &comparison.ignored))
        .collect();
    assert!(unused.is_empty(), "explains nothing: {}", unused.join("\n"));
}

/// The entries of a list that were of no use.
fn idle<'a, T: std::fmt::Debug>(
    list: &'a [T],
    used: &'a BTreeSet<usize>,
) -> impl Iterator<Item = String> + 'a {
    let entries = list.iter().enumerate();
    let unused = entries.filter(|(at, _)| !used.contains(at));
    unused.map(|(_, entry)| format!("{entry:?}"))
}
