//! Which samples of a dataset a manifest means, and what their classes are called then.

use super::{
    DatasetError,
    manifest::{Class, Manifest},
    samples::Dataset,
};
use crate::registry::close_names;

/// Samples by their rows, with their labels.
#[derive(Debug)]
pub struct Selection {
    /// Ascending; `None`: all.
    pub rows: Option<Vec<usize>>,
    /// Of those rows.
    pub labels: Option<Vec<u32>>,
    /// Names of the classes in order of their numbers; may be empty.
    pub names: Vec<String>,
    /// 0 without labels.
    pub n_classes: usize,
}

impl Selection {
    /// Keeps the manifest's classes, numbered in its order, and of each class the positions that it names.
    ///
    /// # Errors
    /// Classes that are not there; a choice without labels to choose by; no sample left.
    pub fn new(
        manifest: &Manifest,
        n_samples: usize,
        labels: Option<Vec<u32>>,
        names: &[String],
    ) -> Result<Selection, DatasetError> {
        let largest = labels.iter().flatten().max().map_or(0, |&largest| largest as usize + 1);
        let n_classes = if labels.is_some() { largest.max(names.len()) } else { 0 };
        if manifest.classes.is_none() && manifest.per_class.is_none() {
            return Ok(Selection { rows: None, labels, names: names.to_vec(), n_classes });
        }
        let key = if manifest.classes.is_some() { "classes" } else { "per_class" };
        let Some(labels) = labels else {
            return Err(manifest
                .wrong(key, "needs labels, which the dataset lacks; name a label, or leave it out")
                .into());
        };
        let kept = match &manifest.classes {
            Some(classes) => chosen(manifest, classes, names, n_classes)?,
            None => (0..n_classes).collect(),
        };
        let mut numbers = vec![None; n_classes];
        for (new, &old) in kept.iter().enumerate() {
            if let Some(number) = numbers.get_mut(old) {
                *number = u32::try_from(new).ok();
            }
        }
        let [from, to] = manifest.per_class.unwrap_or([0, usize::MAX]);
        let mut met = vec![0_usize; kept.len()];
        let (mut rows, mut new_labels) = (Vec::new(), Vec::new());
        for (row, &label) in labels.iter().enumerate() {
            let Some(new) = numbers.get(label as usize).copied().flatten() else { continue };
            let Some(position) = met.get_mut(new as usize) else { continue };
            if (from..to).contains(position) {
                rows.push(row);
                new_labels.push(new);
            }
            *position += 1;
        }
        if let Some(empty) = manifest.classes.iter().flatten().zip(&met).find(|(_, met)| **met == 0) {
            return Err(manifest.wrong("classes", format!("names {}, of which there is no sample", empty.0)).into());
        }
        if rows.is_empty() {
            let most = met.iter().max().copied().unwrap_or(0);
            let problem = format!("is [{from}, {to}], but no class has more than {most} of {n_samples} samples");
            return Err(manifest.wrong("per_class", problem).into());
        }
        let names = kept.iter().filter_map(|&class| names.get(class).cloned()).collect();
        Ok(Selection { rows: Some(rows), labels: Some(new_labels), names, n_classes: kept.len() })
    }

    /// The row of a selected sample.
    pub fn row(&self, place: usize) -> Option<usize> {
        match &self.rows {
            Some(rows) => rows.get(place).copied(),
            None => Some(place),
        }
    }

    /// The selected samples of a dataset.
    pub fn of(&self, dataset: Dataset) -> Dataset {
        match &self.rows {
            Some(rows) => dataset.view(rows.clone(), self.labels.clone(), self.n_classes),
            None => dataset.with_classes(self.n_classes),
        }
    }

    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> u64 {
        let rows = self.rows.as_ref().map_or(0, |rows| size_of_val(rows.as_slice()));
        let labels = self.labels.as_ref().map_or(0, |labels| size_of_val(labels.as_slice()));
        (rows + labels) as u64
    }
}

/// The numbers of a manifest's classes.
fn chosen(
    manifest: &Manifest,
    classes: &[Class],
    names: &[String],
    n_classes: usize,
) -> Result<Vec<usize>, DatasetError> {
    let mut kept = Vec::with_capacity(classes.len());
    let mut is_kept = vec![false; n_classes];
    for class in classes {
        let number = match class {
            Class::Number(number) => usize::try_from(*number).ok(),
            Class::Name(name) => names.iter().position(|known| known == name),
        };
        let Some(taken) = number.and_then(|number| is_kept.get_mut(number)) else {
            let mend = match class {
                Class::Number(_) => format!("give numbers from 0 to {}", n_classes.saturating_sub(1)),
                Class::Name(_) if names.is_empty() => "the dataset names none; give numbers".to_owned(),
                Class::Name(name) => match close_names(name, names.iter().map(String::as_str)) {
                    close if close.is_empty() => {
                        format!("the first is {:?}", names.first().cloned().unwrap_or_default())
                    }
                    close => format!("did you mean {}?", close.join(", ")),
                },
            };
            return Err(manifest
                .wrong("classes", format!("names {class}, which is no class of the dataset; {mend}"))
                .into());
        };
        if std::mem::replace(taken, true) {
            return Err(manifest.wrong("classes", format!("names {class} twice; name each class once")).into());
        }
        kept.extend(number);
    }
    Ok(kept)
}
