//! The feature store: entity states, shard watermarks and the layout in one sled directory and one
//! tree, so that a shard's states and its watermark are one atomic batch.

use super::codec::{self, Record};
use super::report::{OpenError, OpenReport, Warning};
use super::segment::{self, engine, guarded, make_durable, part_key, put};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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

/// The `state/` directory.
pub struct SledFeatures {
    path: PathBuf,
    cache: u64,
    power: bool,
    /// `None` after a failure or `close`; a failed handle is opened anew at the next use.
    db: Mutex<(Option<sled::Db>, bool)>,
}

impl SledFeatures {
    pub fn open(root: &Path, options: &super::StoreOptions, report: &mut OpenReport) -> Result<Self, OpenError> {
        let path = root.join("state");
        let db = match segment::open_sled(&path, options.cache_bytes) {
            Ok(db) => db,
            Err(e) => {
                let reason = e.to_string();
                let to = segment::quarantine(root, &path, "state", &reason)?;
                report.warnings.push(Warning::Quarantined { name: "state".into(), to, reason });
                segment::open_sled(&path, options.cache_bytes)?
            }
        };
        segment::sync_dir(&path)?;
        let power = options.durability == super::Durability::Power;
        Ok(SledFeatures { path, cache: options.cache_bytes, power, db: Mutex::new((Some(db), false)) })
    }

    fn with<R>(&self, what: impl FnOnce(&sled::Db) -> Result<R, StoreError>) -> Result<R, StoreError> {
        let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let (db, closed) = &mut *slot;
        if *closed {
            return Err(StoreError::Closed);
        }
        let open = match db.take() {
            Some(open) => open,
            None => segment::open_sled(&self.path, self.cache)?,
        };
        let result = guarded(|| what(&open));
        // An I/O error sticks to a sled handle: only a new one can work again.
        if !matches!(result, Err(StoreError::Io(_))) {
            *db = Some(open);
        }
        result
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

    fn durable(&self, db: &sled::Db) -> Result<(), StoreError> {
        make_durable(db, &self.path, self.power)
    }

    pub fn close(&self) {
        let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(db), _) = &*slot {
            let _ = guarded(|| self.durable(db));
        }
        *slot = (None, true);
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
        self.with(|db| {
            let mut batch = sled::Batch::default();
            for (key, frame) in &frames {
                let mut part = put(&mut batch, key, frame);
                // The state was larger before: its last parts go in the same batch.
                while db.contains_key(part_key(key, part)).map_err(engine)? {
                    batch.remove(part_key(key, part));
                    part += 1;
                }
            }
            db.apply_batch(batch).map_err(engine)?;
            self.durable(db)
        })
    }

    fn load(&self, shard: usize, entity: EntityHash) -> Result<Option<EntityState>, StoreError> {
        self.read(&state_key(shard, entity)?)
    }

    fn watermark(&self, shard: usize) -> Result<u64, StoreError> {
        Ok(self.read(&shard_key(b'w', shard)?)?.unwrap_or(0))
    }

    fn layout(&self) -> Result<Option<String>, StoreError> {
        self.read(&LAYOUT)
    }

    fn reset(&self, layout: &str) -> Result<(), StoreError> {
        let frame = codec::encode(&LAYOUT, &layout.to_owned())?;
        self.with(|db| {
            // Without a layout first: a crash half way makes the caller reset again.
            db.remove(part_key(&LAYOUT, 0)).map_err(engine)?;
            self.durable(db)?;
            db.clear().map_err(engine)?;
            let mut batch = sled::Batch::default();
            put(&mut batch, &LAYOUT, &frame);
            db.apply_batch(batch).map_err(engine)?;
            self.durable(db)
        })
    }
}
