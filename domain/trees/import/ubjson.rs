//! UBJSON (ubjson.org, draft 12) as XGBoost writes it: big-endian, lists of one type with their count in front.

use super::document::{Budget, Document, MAX_NESTING, list};

pub fn read(bytes: &[u8]) -> Result<Document, String> {
    let mut reader = Reader { bytes, at: 0, budget: Budget::new() };
    let kind = reader.byte()?;
    let document = reader.value(kind, 0).map_err(|e| format!("UBJSON, byte {}: {e}", reader.at))?;
    if reader.at != bytes.len() {
        return Err(format!("UBJSON: {} bytes after the document", bytes.len() - reader.at));
    }
    Ok(document)
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    budget: Budget,
}

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> Result<&'b [u8], String> {
        let taken = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| format!("ends {n} bytes too early"))?;
        self.at += n;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("N bytes"))
    }

    fn number(&mut self, kind: u8) -> Result<f64, String> {
        Ok(match kind {
            b'i' => f64::from(self.byte()? as i8),
            b'U' => f64::from(self.byte()?),
            b'I' => f64::from(i16::from_be_bytes(self.array()?)),
            b'l' => f64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?) as f64,
            b'd' => f64::from(f32::from_be_bytes(self.array()?)),
            b'D' => f64::from_be_bytes(self.array()?),
            other => return Err(format!("{:?} is no number's type", char::from(other))),
        })
    }

    fn length(&mut self) -> Result<usize, String> {
        let kind = self.byte()?;
        let n = self.number(kind)?;
        super::document::whole(n).ok_or_else(|| format!("a length of {n}"))
    }

    fn text(&mut self) -> Result<String, String> {
        let n = self.length()?;
        self.budget.take()?;
        String::from_utf8(self.take(n)?.to_vec()).map_err(|_| "a text that is not UTF-8".into())
    }

    fn value(&mut self, kind: u8, nesting: usize) -> Result<Document, String> {
        match kind {
            b'Z' => Ok(Document::Nothing),
            b'T' => Ok(Document::Number(1.0)),
            b'F' => Ok(Document::Number(0.0)),
            b'S' => Ok(Document::Text(self.text()?)),
            b'[' | b'{' => {
                self.budget.take()?;
                if nesting >= MAX_NESTING {
                    return Err(format!("nests deeper than {MAX_NESTING}"));
                }
                if kind == b'[' { self.list(nesting) } else { self.map(nesting) }
            }
            _ => self.number(kind).map(Document::Number),
        }
    }

    fn list(&mut self, nesting: usize) -> Result<Document, String> {
        let one_type = if self.next_is(b'$') { Some(self.byte()?) } else { None };
        if let Some(kind) = one_type {
            if self.byte()? != b'#' {
                return Err("a list of one type without a count".into());
            }
            let n = self.length()?;
            let width = match kind {
                b'i' | b'U' => 1,
                b'I' => 2,
                b'l' | b'd' => 4,
                b'L' | b'D' => 8,
                other => return Err(format!("a list of type {:?}", char::from(other))),
            };
            // Its bytes must be there before room is made for it.
            if n.checked_mul(width).is_none_or(|bytes| bytes > self.bytes.len() - self.at) {
                return Err(format!("a list of {n} numbers in {} bytes", self.bytes.len() - self.at));
            }
            return (0..n).map(|_| self.number(kind)).collect::<Result<_, _>>().map(Document::Numbers);
        }
        let count = if self.next_is(b'#') { Some(self.length()?) } else { None };
        let mut items = Vec::new();
        while count.is_none_or(|n| items.len() < n) {
            let kind = self.byte()?;
            if count.is_none() && kind == b']' {
                break;
            }
            self.budget.take()?;
            items.push(self.value(kind, nesting + 1)?);
        }
        Ok(list(items))
    }

    fn map(&mut self, nesting: usize) -> Result<Document, String> {
        if self.next_is(b'$') {
            return Err("a map of one type".into());
        }
        let count = if self.next_is(b'#') { Some(self.length()?) } else { None };
        let mut entries = Vec::new();
        while count.is_none_or(|n| entries.len() < n) {
            if count.is_none() && self.next_is(b'}') {
                break;
            }
            let key = self.text()?;
            let kind = self.byte()?;
            entries.push((key, self.value(kind, nesting + 1)?));
        }
        Ok(Document::Map(entries))
    }

    /// Takes the byte if it is this one.
    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }
}
