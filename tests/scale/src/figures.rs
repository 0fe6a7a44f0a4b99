//! The figures, their goals, and where they go.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One measured value beside its goal.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The median of the runs.
    pub value: f64,
    /// Unit of the value.
    pub unit: String,
    /// The most that is good; without one the figure only informs.
    pub goal: Option<f64>,
    /// Whether the goal was met.
    pub met: Option<bool>,
    /// Each run's value.
    pub runs: Vec<f64>,
}

/// A figure as a benchmark of pure code leaves it.
#[derive(Deserialize)]
struct Left {
    name: String,
    unit: String,
    goal: Option<f64>,
    runs: Vec<f64>,
}

/// The figures so far.
#[derive(Debug, Default)]
pub struct Figures {
    all: Vec<Figure>,
    prefix: &'static str,
}

impl Figures {
    /// How the names of all further figures begin.
    pub fn prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    /// Adds a figure of one or more runs and prints it.
    pub fn add(&mut self, name: impl Into<String>, unit: &str, goal: Option<f64>, runs: Vec<f64>) {
        let value = median(&runs);
        let figure = Figure {
            name: format!("{}{}", self.prefix, name.into()),
            value,
            unit: unit.to_owned(),
            goal,
            met: goal.map(|goal| value <= goal),
            runs,
        };
        println!("{}", line(&figure));
        self.all.push(figure);
    }

    /// Adds what the benchmarks of pure code left in a folder, if it is there: one file per figure.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn collect(&mut self, folder: &Path) -> anyhow::Result<()> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(());
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            let context = || format!("failed to read {}", path.display());
            let text = fs::read(&path).with_context(context)?;
            let Left {
                name,
                unit,
                goal,
                runs,
            } = serde_json::from_slice(&text).with_context(context)?;
            self.add(name, &unit, goal, runs);
        }
        Ok(())
    }

    /// All of them, in the order in which they were added.
    #[cfg(test)]
    pub fn all(&self) -> &[Figure] {
        &self.all
    }

    /// Prints all figures again, one below the other.
    pub fn print(&self) {
        println!();
        for figure in &self.all {
            println!("{}", line(figure));
        }
    }

    /// Writes `bench.json` into a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join("bench.json");
        fs::create_dir_all(folder)?;
        fs::write(&path, serde_json::to_vec_pretty(&self.all)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
        println!("figures are in {}", path.display());
        Ok(())
    }
}

fn line(figure: &Figure) -> String {
    let Figure {
        name, value, unit, ..
    } = figure;
    let verdict = match (figure.goal, figure.met) {
        (Some(goal), Some(true)) => format!("goal <= {goal}  ok"),
        (Some(goal), _) => format!("goal <= {goal}  MISSED"),
        _ => String::new(),
    };
    format!("{name:<58} {value:>10.2} {unit:<10} {verdict}")
}

/// The middle value, or the mean of the two in the middle; not a number without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let above = sorted.get(middle).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        return above;
    }
    let below = middle
        .checked_sub(1)
        .and_then(|index| sorted.get(index))
        .copied();
    f64::midpoint(below.unwrap_or(f64::NAN), above)
}

/// The smallest value that is no less than this share of all, from 0 to 1 (nearest rank); not a number without values.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_benchmarks_left_is_among_the_figures() {
        let folder = std::env::temp_dir().join(format!("figures-{}", std::process::id()));
        let mut figures = Figures::default();
        figures.collect(&folder).unwrap();
        assert!(figures.all().is_empty());
        fs::create_dir_all(&folder).unwrap();
        let left =
            r#"{"name": "render", "unit": "µs", "goal": 200.0, "runs": [150.0, 250.0, 201.0]}"#;
        fs::write(folder.join("render.json"), left).unwrap();
        let read = figures.collect(&folder);
        fs::write(folder.join("render.json"), "{}").unwrap();
        let broken = Figures::default().collect(&folder);
        fs::remove_dir_all(&folder).unwrap();
        read.unwrap();
        assert!(broken.is_err());
        let figure = &figures.all()[0];
        assert_eq!((figure.value, figure.met), (201.0, Some(false)));
        assert_eq!((&*figure.name, figure.runs.len()), ("render", 3));
    }

    #[test]
    fn the_median_of_odd_and_even_numbers_of_runs() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.5), 50.0);
        assert_eq!(percentile(&hundred, 0.99), 99.0);
        assert_eq!(percentile(&[7.0, 3.0], 0.99), 7.0);
        assert_eq!(percentile(&[7.0, 3.0], 0.5), 3.0);
        assert_eq!(percentile(&[7.0], 0.0), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn names_begin_as_they_are_told_to() {
        let mut figures = Figures::default();
        figures.add("first", "", None, vec![1.0]);
        figures.prefix("live, ");
        figures.add("second", "", None, vec![1.0]);
        let names: Vec<&str> = figures.all().iter().map(|f| &*f.name).collect();
        assert_eq!(names, ["first", "live, second"]);
    }
}
