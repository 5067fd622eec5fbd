//! Tables to events: sort compact keys, make each event when it is asked for.

use super::Recorded;
use super::column::{Column, Table, in_file};
use super::spec::{IdSpec, RecordingSpec, TemplateSpec, TimeSpec};
use crate::config::toml_file::TomlFile;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use understudy_domain::event::Event;
use understudy_domain::problem::{Problem, closest};
use understudy_domain::time::Timestamp;

/// All events of a recording, ordered by (at, rank, id).
pub struct Recording {
    tables: Vec<Table>,
    templates: Vec<Template>,
    keys: std::vec::IntoIter<Key>,
}

/// Sorts as (at, rank, id); 16 bytes an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: i64,
    template: u16,
    row: u32,
}

/// A template with its columns found.
struct Template {
    kind: String,
    table: usize,
    id: IdSpec,
    time: Time,
    at: Option<Time>,
    present: Vec<usize>,
    absent: Vec<usize>,
    entities: Vec<(String, usize)>,
    properties: Vec<(String, usize)>,
    references: Vec<(String, IdSpec)>,
}

struct Time {
    columns: Vec<usize>,
    plus: i64,
    unit: i64,
}

/// Opens `recording.toml` of a project.
pub fn open_recording(project: &Path) -> Result<Recording, Problem> {
    open_recording_file(&project.join("recording.toml"))
}

/// Opens a recording description; its paths are relative to the folder it lies in.
pub fn open_recording_file(path: &Path) -> Result<Recording, Problem> {
    let file = TomlFile::read(path)?;
    let spec: RecordingSpec = file.parse()?;
    let folder = path.parent().unwrap_or(Path::new("."));
    build(folder, spec).map_err(|p| file.place(p))
}

fn build(folder: &Path, spec: RecordingSpec) -> Result<Recording, Problem> {
    let names: Vec<&String> = spec.tables.keys().collect();
    let mut tables = Vec::new();
    let mut bytes = read_tables(folder, &spec)?;
    for (name, table) in &spec.tables {
        let body = bytes.remove(name).unwrap_or_default();
        tables.push(Table::parse(&table.file, &body, &table.types).map_err(|p| under(p, format!("tables.{name}")))?);
    }
    // Equal ranks are ordered by id, and ids of one template by row: so templates sort by (rank, prefix).
    // The zero stands for the digits that follow a prefix.
    let mut order: Vec<usize> = (0..spec.events.len()).collect();
    order.sort_by_key(|i| (spec.events[*i].rank, format!("{}0", spec.events[*i].id.prefix)));
    let mut templates = Vec::new();
    let mut prefixes = BTreeSet::new();
    for i in order {
        let t = &spec.events[i];
        let key = format!("events.{i}");
        let table = names.iter().position(|n| **n == t.table).ok_or_else(|| {
            let hint = match closest(&t.table, names.iter().map(|n| n.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under [tables]".into(),
            };
            Problem::new(format!("{key}.table"), format!("no table `{}`", t.table), hint)
        })?;
        check_id(t, &tables[table], &key, &mut prefixes)?;
        templates.push(compile(t, table, &tables[table]).map_err(|p| under(p, key))?);
    }
    let keys = sorted_keys(&tables, &templates)?;
    Ok(Recording { tables, templates, keys: keys.into_iter() })
}

fn under(mut p: Problem, key: String) -> Problem {
    if p.key.is_empty() && p.file.is_empty() {
        p.key = key;
    }
    p
}

fn check_id(t: &TemplateSpec, table: &Table, key: &str, seen: &mut BTreeSet<String>) -> Result<(), Problem> {
    let wrong = |message: String, hint: &str| Err(Problem::new(format!("{key}.id"), message, hint));
    if t.id.prefix.ends_with(|c: char| c.is_ascii_digit()) {
        return wrong(
            format!("the prefix `{}` ends in a digit", t.id.prefix),
            "end it with a letter: ids must be unique",
        );
    }
    if !seen.insert(t.id.prefix.clone()) {
        return wrong(
            format!("two event templates have the id prefix `{}`", t.id.prefix),
            "ids must be unique: choose another prefix",
        );
    }
    let last = table.rows.saturating_sub(1).to_string().len();
    if last > t.id.width || t.id.width > 20 {
        return wrong(
            format!("width {} does not fit {} rows", t.id.width, table.rows),
            &format!("use {last} to 20 digits"),
        );
    }
    Ok(())
}

fn compile(t: &TemplateSpec, index: usize, table: &Table) -> Result<Template, Problem> {
    let find_all = |names: &[String]| names.iter().map(|c| table.find(c)).collect::<Result<Vec<_>, _>>();
    let pairs = |m: &BTreeMap<String, String>| {
        m.iter().map(|(k, c)| Ok((k.clone(), table.find(c)?))).collect::<Result<Vec<_>, Problem>>()
    };
    let time = |s: &TimeSpec| {
        let columns = find_all(&s.columns)?;
        if let Some(c) = columns.iter().find(|c| !matches!(table.column(**c), Column::Int(_))) {
            let message = format!("column `{}` of `{}` is not made of integers", table.name(*c), table.file);
            return Err(Problem::new("", message, "a time is a sum of integer columns in `unit`s since 1970"));
        }
        Ok(Time { columns, plus: s.plus, unit: s.unit.0 })
    };
    Ok(Template {
        kind: t.kind.clone(),
        table: index,
        id: t.id.clone(),
        time: time(&t.time)?,
        at: t.at.as_ref().map(time).transpose()?,
        present: find_all(&t.when.present)?,
        absent: find_all(&t.when.absent)?,
        entities: pairs(&t.entities)?,
        properties: pairs(&t.properties)?,
        references: t.references.iter().map(|(k, id)| (k.clone(), id.clone())).collect(),
    })
}

impl Time {
    /// None if one of the columns is null, or the sum lies beyond what microseconds can hold.
    fn of(&self, table: &Table, row: u32) -> Option<i64> {
        let sum = self.columns.iter().try_fold(self.plus, |s, c| s.checked_add(table.column(*c).int(row)?))?;
        sum.checked_mul(self.unit)
    }
}

fn sorted_keys(tables: &[Table], templates: &[Template]) -> Result<Vec<Key>, Problem> {
    let mut keys = Vec::new();
    for (i, t) in templates.iter().enumerate() {
        let table = &tables[t.table];
        for row in 0..table.rows {
            let null = |c: &usize| table.column(*c).is_null(row);
            if t.present.iter().any(null) || !t.absent.iter().all(null) {
                continue;
            }
            let no_time = || {
                let message = format!("row {row} has no time for `{}`: a column of the sum is empty", t.kind);
                in_file(&table.file, 0, message, "name the column in `when.present` of that template to skip such rows")
            };
            let time = t.time.of(table, row).ok_or_else(no_time)?;
            let at = t.at.as_ref().map_or(Some(time), |a| a.of(table, row)).ok_or_else(no_time)?;
            keys.push(Key { at, template: i as u16, row });
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

impl Recording {
    fn event(&self, key: Key) -> Recorded {
        let t = &self.templates[key.template as usize];
        let table = &self.tables[t.table];
        let mut properties: BTreeMap<_, _> = t
            .properties
            .iter()
            .filter(|(_, c)| !table.column(*c).is_null(key.row))
            .map(|(name, c)| (name.clone(), table.column(*c).value(key.row)))
            .collect();
        properties.extend(t.references.iter().map(|(name, id)| (name.clone(), id.of_row(key.row).as_str().into())));
        let event = Event {
            id: t.id.of_row(key.row),
            kind: t.kind.clone(),
            time: Timestamp(t.time.of(table, key.row).unwrap_or(key.at)),
            entities: t.entities.iter().map(|(k, c)| (k.clone(), table.column(*c).id(key.row))).collect(),
            properties,
        };
        Recorded { at: Timestamp(key.at), event }
    }
}

impl Iterator for Recording {
    type Item = Result<Recorded, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.keys.next()?;
        Some(Ok(self.event(key)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.keys.size_hint()
    }
}

impl ExactSizeIterator for Recording {}

fn read_tables(folder: &Path, spec: &RecordingSpec) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let mut out = BTreeMap::new();
    let Some(archive) = &spec.archive else {
        for (name, t) in &spec.tables {
            let path = folder.join(&t.file);
            let mut bytes = Vec::new();
            open_maybe_zstd(&path)?.read_to_end(&mut bytes).map_err(|e| unreadable(&path, e))?;
            out.insert(name.clone(), bytes);
        }
        return Ok(out);
    };
    let path = folder.join(archive);
    let mut tar = tar::Archive::new(open_maybe_zstd(&path)?);
    let mut members = Vec::new();
    for entry in tar.entries().map_err(|e| unreadable(&path, e))? {
        let mut entry = entry.map_err(|e| unreadable(&path, e))?;
        let member = entry.path().map_err(|e| unreadable(&path, e))?.to_string_lossy().into_owned();
        for (name, _) in spec.tables.iter().filter(|(_, t)| t.file == member) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(|e| unreadable(&path, e))?;
            out.insert(name.clone(), bytes);
        }
        members.push(member);
    }
    match spec.tables.iter().find(|(name, _)| !out.contains_key(*name)) {
        None => Ok(out),
        Some((name, t)) => Err(Problem::new(
            format!("tables.{name}.file"),
            format!("`{archive}` holds no `{}`", t.file),
            format!("it holds {}", members.join(", ")),
        )),
    }
}

pub(super) fn unreadable(path: &Path, e: std::io::Error) -> Problem {
    in_file(&path.display().to_string(), 0, format!("cannot be read: {e}"), "check the path and that the file is whole")
}

/// The bytes of a file, decompressed if its name ends in `.zst`.
pub(super) fn open_maybe_zstd(path: &Path) -> Result<Box<dyn Read + Send>, Problem> {
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    if path.extension().is_some_and(|e| e == "zst") {
        Ok(Box::new(zstd::stream::read::Decoder::new(file).map_err(|e| unreadable(path, e))?))
    } else {
        Ok(Box::new(BufReader::new(file)))
    }
}
