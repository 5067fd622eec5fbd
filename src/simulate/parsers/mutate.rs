//! From committed inputs to new ones: seeded flips, cuts, splices, tokens and lengths.

use crate::simulate::dice::Dice;

/// Longest input made; bodies are bounded at a mebibyte, and what grows with the length shows long before.
const MAX_INPUT: usize = 64 << 10;

/// Words of the formats and values at the edges of types, one a line.
const TOKENS: &str = include_str!("tokens.txt");

const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32_767,
    65_535,
    65_536,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 60,
    (1 << 63) - 1,
    u64::MAX - 7,
    u64::MAX,
];

/// Input number `n` of a campaign: a function of its dice and the corpus.
pub fn mutate(dice: &mut Dice, corpus: &[&[u8]]) -> Vec<u8> {
    let mut input = dice.pick(corpus).to_vec();
    for _ in 0..dice.between(1, 6) {
        step(dice, corpus, &mut input);
        input.truncate(MAX_INPUT);
    }
    input
}

fn token(dice: &mut Dice) -> &'static [u8] {
    const BYTES: &[&[u8]] = &[b"\n", b"\0", b"\xff\xfe", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\r\n"];
    let lines = TOKENS.lines().count() as u64;
    match dice.below(lines + BYTES.len() as u64) {
        n if n < lines => TOKENS.lines().nth(n as usize).unwrap_or_default().as_bytes(),
        n => BYTES[(n - lines) as usize],
    }
}

fn range(dice: &mut Dice, len: usize) -> std::ops::Range<usize> {
    let from = dice.below(len as u64 + 1) as usize;
    let most = (len - from).min(if dice.percent(80) { 16 } else { len });
    from..from + dice.below(most as u64 + 1) as usize
}

fn step(dice: &mut Dice, corpus: &[&[u8]], input: &mut Vec<u8>) {
    let at = dice.below(input.len() as u64 + 1) as usize;
    match dice.below(10) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.next() as u8,
        2 => drop(input.drain(range(dice, input.len()))),
        3 | 4 => drop(input.splice(at..at, token(dice).iter().copied())),
        5 => {
            let bytes = dice.pick(NUMBERS).to_le_bytes();
            let width = *dice.pick(&[1, 2, 4, 8]);
            let end = (at + width).min(input.len());
            input.splice(at..end, bytes[..width].iter().copied());
        }
        6 => {
            let other = *dice.pick(corpus);
            let part = range(dice, other.len());
            input.splice(at..at, other[part].iter().copied());
        }
        7 => {
            let part = range(dice, input.len());
            let copy = input[part].to_vec();
            let times = if dice.percent(10) { dice.between(50, 2_000) } else { dice.between(1, 8) } as usize;
            let times = times.min(MAX_INPUT / copy.len().max(1));
            input.splice(at..at, copy.repeat(times));
        }
        8 => input.truncate(at),
        _ => {
            let digits = dice.pick(NUMBERS).to_string();
            input.splice(at..at, digits.into_bytes());
        }
    }
}
