//! The committed inputs that mutations start from. `tests.rs` checks that every file is listed.

macro_rules! corpus {
    ($($target:literal: $($file:literal),*;)*) => {
        /// The inputs of a target; none for a name that no target has.
        pub fn of(target: &str) -> &'static [&'static [u8]] {
            match target {
                $($target => &[
                    $(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/", $target, "/", $file)),)*
                ],)*
                _ => &[],
            }
        }

        /// Target and file of every input.
        #[cfg(test)]
        pub const FILES: &[(&str, &str)] = &[$($(($target, $file),)*)*];
    };
}

corpus! {
    "cloudevents": "batch", "binary", "structured";
    "events": "array.json", "cloud.json", "one.json";
    "expression": "0.cel", "1.cel", "2.cel", "3.cel", "4.cel", "5.cel", "6.cel";
    "frame": "block.bin", "event.bin", "outcome.bin", "prediction.bin", "text.bin";
    "infer": "rows.json", "wrong.json";
    "infer-binary": "lengths.bin", "rows.bin";
    "manifest": "one.json";
    "ndjson": "crlf.ndjson", "lines.ndjson";
    "outcomes": "batch.json", "one.json";
    "predict": "deep.json", "duplicate-keys.json", "empty.json", "ids.json", "instances.json", "numbers.json", "one.json";
    "project": "aggregates.toml", "features.toml", "model.toml", "rules.toml", "settings.toml";
    "record": "block.bin", "event.bin", "outcome.bin", "prediction.bin", "text.bin";
    "weights": "logistic.safetensors";
    "words": "0.txt", "1.txt", "2.txt", "3.txt", "4.txt", "5.txt", "6.txt";
}
