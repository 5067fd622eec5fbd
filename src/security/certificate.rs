//! The validity of a certificate: the two times out of its DER, and nothing else of it.

use understudy_domain::time::{SECOND, Timestamp};

/// Tag, content and the rest of one DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let n = usize::from(first & 0x7f);
            let bytes = rest.get(..n)?;
            (bytes.iter().fold(0usize, |l, b| (l << 8) | usize::from(*b)), &rest[n..])
        }
        _ => return None,
    };
    Some((tag, rest.get(..length)?, &rest[length..]))
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ` (RFC 5280 allows no others).
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        0x17 => {
            let (yy, rest) = text.split_at_checked(2)?;
            let yy: i16 = yy.parse().ok()?;
            (if yy < 50 { 2000 + yy } else { 1900 + yy }, rest)
        }
        0x18 => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |i: usize| rest.get(2 * i..2 * i + 2)?.parse::<i8>().ok();
    let date = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    let at = jiff::tz::Offset::UTC.to_timestamp(date).ok()?;
    Some(Timestamp(at.as_second() * SECOND))
}

/// From and until when the certificate is valid.
pub fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate, _) = element(der)?;
    let (_, mut tbs, _) = element(certificate)?;
    let (tag, _, rest) = element(tbs)?;
    if tag == 0xa0 {
        tbs = rest; // the version, which may be left out
    }
    for _serial_algorithm_issuer in 0..3 {
        tbs = element(tbs)?.2;
    }
    let (_, validity, _) = element(tbs)?;
    let (from_tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((time(from_tag, from)?, time(until_tag, until)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time() {
        let at = |s: &str| Some(s.parse::<Timestamp>().unwrap());
        assert_eq!(time(0x17, b"260131235959Z"), at("2026-01-31T23:59:59Z"));
        assert_eq!(time(0x17, b"991231000000Z"), at("1999-12-31T00:00:00Z"));
        assert_eq!(time(0x18, b"21260131235900Z"), at("2126-01-31T23:59:00Z"));
        for wrong in [&b"26013123595Z"[..], b"", b"Z", b"269931235959Z", b"260131235959"] {
            assert_eq!(time(0x17, wrong), None, "{wrong:?}");
        }
        assert_eq!(time(0x05, b"260131235959Z"), None);
    }

    #[test]
    fn nonsense_has_no_validity_and_does_no_harm() {
        for n in 0..200u8 {
            let bytes: Vec<u8> = (0..n).map(|i| i.wrapping_mul(n).wrapping_add(0x30)).collect();
            let _ = validity(&bytes);
        }
        assert_eq!(validity(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
