//! The part of the Dockerfile language that this repository's Dockerfile uses.

use anyhow::{Context, Result, bail};

/// One `FROM` and what follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// The image it starts from.
    pub base: String,
    /// The name after `AS`.
    pub name: Option<String>,
    /// The instructions, in order, with their arguments as written.
    pub instructions: Vec<(String, String)>,
}

impl Stage {
    /// The arguments of each instruction of this name.
    pub fn all(&self, instruction: &str) -> impl Iterator<Item = &str> {
        self.instructions
            .iter()
            .filter(move |(name, _)| name == instruction)
            .map(|(_, arguments)| arguments.as_str())
    }

    /// The arguments of the one instruction of this name.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn only(&self, instruction: &str) -> Result<&str> {
        let mut all = self.all(instruction);
        match (all.next(), all.next()) {
            (Some(arguments), None) => Ok(arguments),
            (None, _) => bail!("the stage has no {instruction}"),
            (Some(_), Some(_)) => bail!("the stage has more than one {instruction}"),
        }
    }

    /// `COPY --from=stage source destination` as its three parts.
    ///
    /// # Errors
    /// When a `COPY` of the stage has another form.
    pub fn copies(&self) -> Result<Vec<(String, String, String)>> {
        self.all("COPY")
            .map(
                |arguments| match arguments.split_whitespace().collect::<Vec<_>>().as_slice() {
                    [from, source, destination] => {
                        let stage = from
                            .strip_prefix("--from=")
                            .context("COPY of a file from outside the build")?;
                        Ok((
                            stage.to_owned(),
                            (*source).to_owned(),
                            (*destination).to_owned(),
                        ))
                    }
                    _ => bail!("COPY {arguments}: expected --from, one source, one destination"),
                },
            )
            .collect()
    }

    /// The words of `ENTRYPOINT ["…"]`.
    ///
    /// # Errors
    /// When it is missing or in the shell form, which needs a shell.
    pub fn entrypoint(&self) -> Result<Vec<String>> {
        serde_json::from_str(self.only("ENTRYPOINT")?).context("ENTRYPOINT in its shell form")
    }
}

/// The stages, in order.
///
/// # Errors
/// When an instruction stands before the first `FROM`.
pub fn parse(text: &str) -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = Vec::new();
    let mut pending = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            pending.push_str(part);
            continue;
        }
        pending.push_str(line);
        let instruction = std::mem::take(&mut pending);
        let (name, arguments) = instruction
            .split_once(char::is_whitespace)
            .unwrap_or((&instruction, ""));
        let (name, arguments) = (name.to_ascii_uppercase(), arguments.trim().to_owned());
        if name == "FROM" {
            let mut words = arguments.split_whitespace();
            let base = words.next().context("FROM without an image")?.to_owned();
            let name = words.nth(1).map(str::to_owned);
            stages.push(Stage {
                base,
                name,
                instructions: Vec::new(),
            });
        } else {
            stages
                .last_mut()
                .with_context(|| format!("{name} before FROM"))?
                .instructions
                .push((name, arguments));
        }
    }
    Ok(stages)
}
