//! The checking walker: looks at every length, count and null of a request before anything is decoded.
//!
//! The decoder allocates for any count that it reads, so four hostile bytes could ask it for gigabytes. The walker follows
//! the same layout over the same bytes ([`super::schema_table`], generated from Kafka's definitions) without allocating,
//! and lets a request through only if everything in it is there, and if the decoded form stays within a budget.

use super::schema_table::SCHEMAS;

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(i16, i16);

/// No version.
pub const NEVER: Versions = Versions(1, 0);

/// A range of versions, for the table.
pub const fn v(low: i16, high: i16) -> Versions {
    Versions(low, high)
}

impl Versions {
    const fn contain(self, version: i16) -> bool {
        self.0 <= version && version <= self.1
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number, a boolean or a uuid of so many bytes.
    Fixed(usize),
    /// Text with a 16-bit or compact length.
    String,
    /// Bytes with a 32-bit or compact length; record batches as well.
    Bytes,
    /// A counted array of elements, each of which takes so many bytes of memory when decoded.
    Array(&'static Kind, usize),
    /// Fields in order, then tagged fields.
    Struct(&'static [Field]),
}

/// A field of a request or of a structure in it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    at: Versions,
    nullable: Versions,
    kind: Kind,
    tag: u32,
    tagged: Versions,
}

/// A field, for the table.
pub const fn field(name: &'static str, at: Versions, nullable: Versions, kind: Kind) -> Field {
    Field {
        name,
        at,
        nullable,
        kind,
        tag: 0,
        tagged: NEVER,
    }
}

/// A field that stands among the tagged ones in some versions, for the table.
pub const fn tagged(
    tag: u32,
    tagged: Versions,
    name: &'static str,
    at: Versions,
    nullable: Versions,
    kind: Kind,
) -> Field {
    Field {
        name,
        at,
        nullable,
        kind,
        tag,
        tagged,
    }
}

/// A request's layout.
#[derive(Debug)]
pub struct Schema {
    /// The API's number.
    pub api_key: i16,
    /// The API's name.
    pub name: &'static str,
    /// The versions that Kafka 4.2 knows.
    pub versions: Versions,
    /// The versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// The fields of the body.
    pub fields: &'static [Field],
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("{field}: {needed} bytes are needed and {remaining} are left")]
    Truncated {
        /// Where.
        field: &'static str,
        /// What the field says that it needs.
        needed: u64,
        /// What is left of the frame.
        remaining: usize,
    },
    /// A negative length, a null that cannot be, or a string that is too long.
    #[error("{field}: a length of {length} is not possible")]
    BadLength {
        /// Where.
        field: &'static str,
        /// The length.
        length: i64,
    },
    /// A variable-length number that does not end, or tags out of order.
    #[error("{field}: the tagged fields are malformed")]
    BadTags {
        /// Where.
        field: &'static str,
    },
    /// The decoded form would be out of proportion.
    #[error("{field}: decoded, the request would take more than {budget} bytes")]
    TooLarge {
        /// Where the budget was crossed.
        field: &'static str,
        /// The budget.
        budget: usize,
    },
}

/// Decoded structures may take this many times the bytes of the frame that they come from…
const BUDGET_FACTOR: usize = 16;
/// …and this much in any case, so that small frames are not judged by their smallness…
const BUDGET_FLOOR: usize = 64 * 1024;
/// …but never more than this. Strings and records do not count: they stay in the frame.
const BUDGET_CEILING: usize = 64 * 1024 * 1024;
/// The longest string of a request.
const MAX_STRING_BYTES: i64 = i16::MAX as i64;
/// What the decoder keeps for the tagged fields of a structure that it does not know: the first makes a tree's node…
const FIRST_UNKNOWN_TAG_BYTES: u64 = 512;
/// …and nodes may be half full.
const UNKNOWN_TAG_BYTES: u64 = 96;

impl Schema {
    /// Finds the layout of an API.
    pub fn find(api_key: i16) -> Option<&'static Schema> {
        SCHEMAS.iter().find(|schema| schema.api_key == api_key)
    }

    /// Whether this version has compact lengths and tagged fields, in its header too.
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible.contain(version)
    }

    /// Checks a request's body. What passes can be decoded within the budget.
    pub fn check(&self, version: i16, body: &[u8]) -> Result<(), Malformed> {
        let mut walker = Walker {
            rest: body,
            version,
            flexible: self.is_flexible(version),
            budget: (body.len().saturating_mul(BUDGET_FACTOR) + BUDGET_FLOOR).min(BUDGET_CEILING),
            used: 0,
        };
        walker.fields(self.fields, "body")
    }
}

/// Checks the tagged fields behind a request's header and returns what follows them.
pub fn skip_tags(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut walker = Walker {
        rest: bytes,
        version: 0,
        flexible: true,
        budget: BUDGET_FLOOR,
        used: 0,
    };
    walker.tags(&[], "header")?;
    Ok(walker.rest)
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    budget: usize,
    used: usize,
}

impl<'a> Walker<'a> {
    fn fields(&mut self, fields: &'static [Field], name: &'static str) -> Result<(), Malformed> {
        for field in fields {
            if field.at.contain(self.version) && !field.tagged.contain(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tags(fields, name) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), Malformed> {
        self.value(&field.kind, field.nullable.contain(self.version), field.name)
    }

    fn value(&mut self, kind: &Kind, nullable: bool, name: &'static str) -> Result<(), Malformed> {
        match kind {
            Kind::Fixed(bytes) => self.take(*bytes as u64, name).map(|_| ()),
            Kind::String | Kind::Bytes => match self.length(matches!(kind, Kind::String), nullable, name)? {
                Some(length) => self.take(length, name).map(|_| ()),
                None => Ok(()),
            },
            Kind::Array(element, memory) => match self.length(false, nullable, name)? {
                Some(count) => self.array(element, *memory, count, name),
                None => Ok(()),
            },
            Kind::Struct(fields) if nullable => match i8::from_be_bytes(self.number(name)?) {
                1 => self.fields(fields, name),
                -1 => Ok(()),
                other => Err(Malformed::BadLength {
                    field: name,
                    length: i64::from(other),
                }),
            },
            Kind::Struct(fields) => self.fields(fields, name),
        }
    }

    fn array(&mut self, element: &Kind, memory: usize, count: u64, name: &'static str) -> Result<(), Malformed> {
        let smallest = smallest(element, self.version, self.flexible);
        let needed = count.saturating_mul(smallest as u64);
        if needed > self.rest.len() as u64 {
            return Err(Malformed::Truncated {
                field: name,
                needed,
                remaining: self.rest.len(),
            });
        }
        self.spend(count.saturating_mul(memory as u64), name)?;
        if let Kind::Fixed(_) = element {
            return self.take(needed, name).map(|_| ());
        }
        for _ in 0..count {
            self.value(element, false, name)?;
        }
        Ok(())
    }

    /// The tagged fields at the end of a structure. Known ones are checked by their layout and must fill their length.
    fn tags(&mut self, fields: &'static [Field], name: &'static str) -> Result<(), Malformed> {
        let count = self.varint(name)?;
        let (mut lowest, mut unknown) = (0, 0_u32);
        for _ in 0..count {
            let tag = self.varint(name)?;
            let length = self.varint(name)?;
            // In strictly ascending order, as the protocol wants: so no tag comes twice.
            if u64::from(tag) < lowest {
                return Err(Malformed::BadTags { field: name });
            }
            lowest = u64::from(tag) + 1;
            let content = self.take(u64::from(length), name)?;
            let known = fields
                .iter()
                .find(|field| field.tagged.contain(self.version) && field.tag == tag);
            match known {
                Some(field) => self.tagged(field, content)?,
                None => {
                    self.spend(
                        if unknown == 0 {
                            FIRST_UNKNOWN_TAG_BYTES
                        } else {
                            UNKNOWN_TAG_BYTES
                        },
                        name,
                    )?;
                    unknown += 1;
                }
            }
        }
        Ok(())
    }

    fn tagged(&mut self, field: &Field, content: &'a [u8]) -> Result<(), Malformed> {
        let after = std::mem::replace(&mut self.rest, content);
        self.field(field)?;
        if !self.rest.is_empty() {
            return Err(Malformed::BadTags { field: field.name });
        }
        self.rest = after;
        Ok(())
    }

    /// A length or count; none for null. A compact string could be longer than one with a 16-bit length, but Kafka reads no such
    /// string either, and what we store of it has 16 bits for its length.
    fn length(&mut self, is_string: bool, nullable: bool, name: &'static str) -> Result<Option<u64>, Malformed> {
        let length = if self.flexible {
            i64::from(self.varint(name)?) - 1
        } else if is_string {
            i64::from(i16::from_be_bytes(self.number(name)?))
        } else {
            i64::from(i32::from_be_bytes(self.number(name)?))
        };
        match u64::try_from(length) {
            Ok(_) if is_string && length > MAX_STRING_BYTES => Err(Malformed::BadLength { field: name, length }),
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 && nullable => Ok(None),
            Err(_) => Err(Malformed::BadLength { field: name, length }),
        }
    }
    /// An unsigned number of at most 32 bits, seven bits to a byte.
    fn varint(&mut self, name: &'static str) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.number::<1>(name)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::BadTags { field: name })
    }

    fn number<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((number, rest)) => {
                self.rest = rest;
                Ok(*number)
            }
            None => Err(Malformed::Truncated {
                field: name,
                needed: N as u64,
                remaining: self.rest.len(),
            }),
        }
    }

    fn take(&mut self, bytes: u64, name: &'static str) -> Result<&'a [u8], Malformed> {
        let split = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| self.rest.split_at_checked(bytes));
        match split {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Malformed::Truncated {
                field: name,
                needed: bytes,
                remaining: self.rest.len(),
            }),
        }
    }

    fn spend(&mut self, bytes: u64, name: &'static str) -> Result<(), Malformed> {
        let used = usize::try_from(bytes).map_or(usize::MAX, |bytes| self.used.saturating_add(bytes));
        if used > self.budget {
            return Err(Malformed::TooLarge {
                field: name,
                budget: self.budget,
            });
        }
        self.used = used;
        Ok(())
    }
}

/// The fewest bytes that a value can take on the wire.
fn smallest(kind: &Kind, version: i16, flexible: bool) -> usize {
    match kind {
        Kind::Fixed(bytes) => *bytes,
        Kind::String => {
            if flexible {
                1
            } else {
                2
            }
        }
        Kind::Bytes | Kind::Array(..) => {
            if flexible {
                1
            } else {
                4
            }
        }
        Kind::Struct(fields) => {
            let plain = fields
                .iter()
                .filter(|field| field.at.contain(version) && !field.tagged.contain(version));
            let least = |field: &Field| match field.kind {
                Kind::Struct(_) if field.nullable.contain(version) => 1,
                kind => smallest(&kind, version, flexible),
            };
            plain.map(least).sum::<usize>() + usize::from(flexible)
        }
    }
}

#[cfg(test)]
#[path = "walker_tests.rs"]
pub(super) mod tests;
