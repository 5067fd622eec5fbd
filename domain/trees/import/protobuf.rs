//! The wire format of protocol buffers, as much as ONNX needs: fields one after another over borrowed bytes.
//! Groups, which ONNX does not use, are refused.

/// A field's number and content.
pub type Field<'b> = (u64, Wire<'b>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'b [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message, until its end or the first that is damaged.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, String>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field.ok_or_protobuf())
    })
}

trait OrProtobuf<T> {
    fn ok_or_protobuf(self) -> Result<T, String>;
}

impl<T> OrProtobuf<T> for Result<T, &'static str> {
    fn ok_or_protobuf(self) -> Result<T, String> {
        self.map_err(|e| format!("protobuf: {e}"))
    }
}

fn field<'b>(rest: &mut &'b [u8]) -> Result<Field<'b>, &'static str> {
    let key = varint(rest)?;
    let wire = match key & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(take(rest, 8)?.try_into().expect("8 bytes")),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| "a field is too long")?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => Wire::Fixed32(take(rest, 4)?.try_into().expect("4 bytes")),
        _ => return Err("a field of an unknown type"),
    };
    Ok((key >> 3, wire))
}

fn take<'b>(rest: &mut &'b [u8], n: usize) -> Result<&'b [u8], &'static str> {
    let (taken, left) = rest.split_at_checked(n).ok_or("ends too early")?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits")
}

impl<'b> Wire<'b> {
    pub fn bytes(self) -> Result<&'b [u8], String> {
        match self {
            Wire::Bytes(b) => Ok(b),
            _ => Err("protobuf: a number where bytes belong".into()),
        }
    }

    pub fn text(self) -> Result<&'b str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "protobuf: a text that is not UTF-8".into())
    }

    /// Appends one integer, or a packed list of them, until there are more than `most`.
    pub fn integers(self, into: &mut Vec<i64>, most: usize) -> Result<(), String> {
        match self {
            Wire::Varint(v) => into.push(v as i64),
            Wire::Bytes(mut packed) => {
                while !packed.is_empty() && into.len() <= most {
                    into.push(varint(&mut packed).ok_or_protobuf()? as i64);
                }
            }
            _ => return Err("protobuf: no integer".into()),
        }
        bounded(into.len(), most)
    }

    /// Appends one `float` or `double`, or a packed list of the type of `width` bytes.
    pub fn floats(self, width: usize, into: &mut Vec<f64>, most: usize) -> Result<(), String> {
        match self {
            Wire::Fixed32(b) => into.push(f64::from(f32::from_le_bytes(b))),
            Wire::Fixed64(b) => into.push(f64::from_le_bytes(b)),
            Wire::Bytes(packed) => {
                bounded(into.len() + packed.len() / width, most)?;
                into.extend(packed.chunks_exact(width).map(float));
            }
            Wire::Varint(_) => return Err("protobuf: an integer where a float belongs".into()),
        }
        bounded(into.len(), most)
    }
}

/// A little-endian `float` or `double`, by its length.
pub fn float(bytes: &[u8]) -> f64 {
    match bytes {
        [a, b, c, d] => f64::from(f32::from_le_bytes([*a, *b, *c, *d])),
        _ => bytes.try_into().map_or(f64::NAN, f64::from_le_bytes),
    }
}

pub fn bounded(n: usize, most: usize) -> Result<(), String> {
    if n > most { Err(format!("a list of more than {most}")) } else { Ok(()) }
}
