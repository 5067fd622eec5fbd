//! The feature store: entity states, shard watermarks and the layout in one sled directory and one
//! tree, so that a shard's states and its watermark are one atomic batch.

use super::codec::{self, Record, SegmentSum};
use super::report::{OpenError, OpenReport, Warning};
use super::segment::{self, SUM, engine, guarded, make_durable, part_key, put};
use super::watermark::Watermark;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use understudy_actors::ports::{FeatureStore, StoreError};
use understudy_domain::entity::EntityHash;
use understudy_domain::features::EntityState;

const LAYOUT: [u8; 1] = *b"l";

fn shard_key(tag: u8, shard: usize) -> Result<Vec<u8>, StoreError> {
    let shard = u16::try_from(shard).map_err(|_| StoreError::Io(format!("shard {shard}: at most 65536 shards")))?;
    Ok([&[tag][..], &shard.to_be_bytes()].concat())
}

fn state_key(shard: usize, entity: EntityHash) -> Result<Vec<u8>, StoreError> {
    Ok([&shard_key(b's', shard)?[..], &entity.0.to_be_bytes()].concat())
}

/// What is done with a key and its frame.
type Entry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// The `state/` directory.
pub struct SledFeatures {
    path: PathBuf,
    cache: u64,
    power: bool,
    deadline: Duration,
    /// The last save: state that went back to an earlier one is noticed by it.
    mark: Watermark,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    db: Option<sled::Db>,
    /// What the store holds: how many saves made it, and the sum of the hashes of keys and frame headers.
    sum: SegmentSum,
    /// A write failed: the handle still reads, and is opened anew before the next write.
    failed: bool,
    closed: bool,
}

impl SledFeatures {
    pub fn open(root: &Path, options: &super::StoreOptions, report: &mut OpenReport) -> Result<Self, OpenError> {
        let path = root.join("state");
        let (mark, told) = Watermark::open(&root.join("state.watermark"))?;
        let open = || {
            let db = segment::open_sled(&path, options.cache_bytes, options.open_deadline)?;
            let sum = verified(&db)?;
            if sum.blocks < told.acknowledged {
                let (is, was) = (sum.blocks, told.acknowledged);
                return Err(StoreError::Corrupt(format!("it holds save {is}, save {was} was the last")));
            }
            Ok((db, sum))
        };
        if let Some(detail) = told.damage.clone() {
            report.warnings.push(Warning::WatermarkUnreadable { log: "state", detail });
        }
        let (db, sum) = match open() {
            Ok(db) => db,
            // State can be rebuilt from the event log, so damage stops nothing; what the machine refuses does.
            Err(StoreError::Corrupt(reason)) => {
                let to = segment::quarantine(root, &path, "state", &reason)?;
                report.warnings.push(Warning::Quarantined { name: "state".into(), to, reason });
                let db = segment::open_sled(&path, options.cache_bytes, options.open_deadline)?;
                (db, SegmentSum { blocks: told.acknowledged, keys: 0 })
            }
            Err(e) => return Err(e.into()),
        };
        segment::sync_dir(&path)?;
        segment::sync_dir(root)?;
        let power = options.durability == super::Durability::Power;
        mark.acknowledge(sum.blocks)?;
        mark.acknowledge(sum.blocks)?;
        let slot = Mutex::new(Slot { db: Some(db), sum, ..Slot::default() });
        Ok(SledFeatures { mark, path, cache: options.cache_bytes, power, deadline: options.open_deadline, slot })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, what: impl FnOnce(&sled::Db) -> Result<R, StoreError>) -> Result<R, StoreError> {
        let mut slot = self.slot();
        let db = self.handle(&mut slot)?;
        guarded(|| what(&db))
    }

    fn handle(&self, slot: &mut Slot) -> Result<sled::Db, StoreError> {
        if slot.closed {
            return Err(StoreError::Closed);
        }
        match &slot.db {
            Some(db) => Ok(db.clone()),
            None => {
                let db = segment::open_sled(&self.path, self.cache, self.deadline)?;
                slot.sum = verified(&db)?;
                Ok(slot.db.insert(db).clone())
            }
        }
    }

    /// A write; `what` gives the batch and the sum that belongs to it.
    fn write(
        &self,
        what: impl FnOnce(&sled::Db, SegmentSum) -> Result<(sled::Batch, SegmentSum), StoreError>,
    ) -> Result<(), StoreError> {
        let mut slot = self.slot();
        if slot.failed {
            // An I/O error sticks to a handle: only a new one can work again.
            slot.db = None;
            slot.failed = false;
        }
        let db = self.handle(&mut slot)?;
        let before = slot.sum;
        let written = guarded(|| {
            let (mut batch, mut sum) = what(&db, before)?;
            sum.blocks = before.blocks + 1;
            put(&mut batch, &SUM, &codec::encode(&SUM, &sum)?);
            db.apply_batch(batch).map_err(engine)?;
            self.durable(&db)?;
            self.mark.acknowledge(sum.blocks)?;
            Ok(sum)
        });
        slot.failed = written.is_err();
        slot.sum = written?;
        Ok(())
    }

    fn read<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.with(|db| {
            let Some(first) = db.get(part_key(key, 0)).map_err(engine)? else { return Ok(None) };
            let mut frame = first.to_vec();
            let whole = codec::frame_len(&frame).unwrap_or(0);
            let mut part = 1;
            while frame.len() < whole {
                let Some(more) = db.get(part_key(key, part)).map_err(engine)? else { break };
                frame.extend_from_slice(&more);
                part += 1;
            }
            Ok(Some(codec::decode(key, &frame)?))
        })
    }

    /// Every entry under its key as it stands, checked; the first damaged one is an error.
    pub fn entries(&self, each: Entry<'_>) -> Result<(), StoreError> {
        let db = {
            let mut slot = self.slot();
            self.handle(&mut slot)?
        };
        let mut start = vec![0];
        loop {
            let page = segment::page(&db, &start, &[SUM[0] - 1])?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            start = segment::after(last);
            for (key, frame) in page {
                codec::intact(&key, &frame)?;
                each(&key, &frame)?;
            }
        }
    }

    /// Every entry decoded.
    pub fn visit(&self, each: &mut dyn FnMut(Vec<u8>, serde_json::Value)) -> Result<(), StoreError> {
        self.entries(&mut |key, frame| {
            let value = match key.first() {
                Some(b's') => serde_json::to_value(codec::decode::<EntityState>(key, frame)?),
                Some(b'w') => serde_json::to_value(codec::decode::<u64>(key, frame)?),
                _ => serde_json::to_value(codec::decode::<String>(key, frame)?),
            };
            each(key.to_vec(), value.unwrap_or_default());
            Ok(())
        })
    }

    fn durable(&self, db: &sled::Db) -> Result<(), StoreError> {
        make_durable(db, &self.path, self.power)
    }

    pub fn close(&self) {
        let mut slot = self.slot();
        if let Some(db) = &slot.db {
            let _ = guarded(|| self.durable(db));
        }
        *slot = Slot { closed: true, ..Slot::default() };
    }
}

impl FeatureStore for SledFeatures {
    fn save(&self, shard: usize, watermark: u64, entities: Vec<(EntityHash, EntityState)>) -> Result<(), StoreError> {
        let mut frames = Vec::with_capacity(entities.len() + 1);
        for (entity, state) in entities {
            let key = state_key(shard, entity)?;
            let frame = codec::encode(&key, &state)?;
            frames.push((key, frame));
        }
        let key = shard_key(b'w', shard)?;
        let frame = codec::encode(&key, &watermark)?;
        frames.push((key, frame));
        self.write(|db, mut sum| {
            let mut batch = sled::Batch::default();
            for (key, frame) in &frames {
                if let Some(old) = db.get(part_key(key, 0)).map_err(engine)? {
                    sum.keys = sum.keys.wrapping_sub(identity(key, &old));
                }
                sum.keys = sum.keys.wrapping_add(identity(key, frame));
                let mut part = put(&mut batch, key, frame);
                // The state was larger before: its last parts go in the same batch.
                while db.contains_key(part_key(key, part)).map_err(engine)? {
                    batch.remove(part_key(key, part));
                    part += 1;
                }
            }
            Ok((batch, sum))
        })
    }

    fn load(&self, shard: usize, entity: EntityHash) -> Result<Option<EntityState>, StoreError> {
        self.read(&state_key(shard, entity)?)
    }

    fn forget(&self, shard: usize, entities: &[EntityHash]) -> Result<(), StoreError> {
        let keys: Vec<_> = entities.iter().map(|e| state_key(shard, *e)).collect::<Result<_, _>>()?;
        self.write(|db, mut sum| {
            let mut batch = sled::Batch::default();
            for key in &keys {
                let mut part = 0;
                while let Some(old) = db.get(part_key(key, part)).map_err(engine)? {
                    if part == 0 {
                        sum.keys = sum.keys.wrapping_sub(identity(key, &old));
                    }
                    batch.remove(part_key(key, part));
                    part += 1;
                }
            }
            Ok((batch, sum))
        })
    }

    fn watermark(&self, shard: usize) -> Result<u64, StoreError> {
        Ok(self.read(&shard_key(b'w', shard)?)?.unwrap_or(0))
    }

    fn layout(&self) -> Result<Option<String>, StoreError> {
        self.read(&LAYOUT)
    }

    fn reset(&self, layout: &str) -> Result<(), StoreError> {
        let frame = codec::encode(&LAYOUT, &layout.to_owned())?;
        self.write(|db, _| {
            // Without a layout first: a crash half way makes the caller reset again.
            db.remove(part_key(&LAYOUT, 0)).map_err(engine)?;
            self.durable(db)?;
            db.clear().map_err(engine)?;
            let mut batch = sled::Batch::default();
            put(&mut batch, &LAYOUT, &frame);
            Ok((batch, SegmentSum { blocks: 0, keys: identity(&LAYOUT, &frame) }))
        })
    }

    fn beside(&self, layout: &str) -> Result<Arc<dyn FeatureStore>, StoreError> {
        if self.layout()?.is_none_or(|l| l == layout) {
            return Err(StoreError::Io("this layout is the store's own".into()));
        }
        let options = super::StoreOptions {
            cache_bytes: self.cache,
            open_deadline: self.deadline,
            durability: if self.power { super::Durability::Power } else { super::Durability::Process },
            ..super::StoreOptions::default()
        };
        super::layouts::open(&self.path, layout, &options)
    }
}

/// What a frame adds to the sum: its header holds the checksum of all of it.
pub fn identity(key: &[u8], frame: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&[key, &frame[..frame.len().min(codec::HEADER)]].concat())
}

/// Checks every frame, and all of them against the sum on record. The engine may lose pages of a damaged log and
/// go on with older ones: each is intact, but together they are no state that ever was.
fn verified(db: &sled::Db) -> Result<SegmentSum, StoreError> {
    let stored = segment::stored_sum(db)?;
    let mut keys = 0u64;
    let mut start = vec![0];
    loop {
        let page = segment::page(db, &start, &[SUM[0] - 1])?;
        let Some((last, _)) = page.last() else { break };
        start = segment::after(last);
        for (key, frame) in page {
            codec::intact(&key, &frame)?;
            keys = keys.wrapping_add(identity(&key, &frame));
        }
    }
    match stored {
        Some(sum) if sum.keys != keys => Err(StoreError::Corrupt("its entries are not those that were saved".into())),
        Some(sum) => Ok(sum),
        // Of an earlier version of the program, or new.
        None => Ok(SegmentSum { blocks: 0, keys }),
    }
}
