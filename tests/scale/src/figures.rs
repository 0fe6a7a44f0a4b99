//! The figures, their goals, and where they go.

use std::{fs, path::Path};

use anyhow::Context;
use serde::Serialize;

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

/// The figures so far.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure of one or more runs and prints it.
    pub fn add(&mut self, name: impl Into<String>, unit: &str, goal: Option<f64>, runs: Vec<f64>) {
        let value = median(&runs);
        let figure = Figure {
            name: name.into(),
            value,
            unit: unit.to_owned(),
            goal,
            met: goal.map(|goal| value <= goal),
            runs,
        };
        println!("{}", line(&figure));
        self.0.push(figure);
    }

    /// All of them, in the order in which they were added.
    #[cfg(test)]
    pub fn all(&self) -> &[Figure] {
        &self.0
    }

    /// Prints all figures again, one below the other.
    pub fn print(&self) {
        println!();
        for figure in &self.0 {
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
        fs::write(&path, serde_json::to_vec_pretty(&self.0)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_odd_and_even_numbers_of_runs() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
