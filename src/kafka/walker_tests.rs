#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// Writes bodies that follow the table, with small random counts.
pub(in crate::kafka) struct Writer {
    out: Vec<u8>,
    random: SmallRng,
    version: i16,
    flexible: bool,
}

impl Writer {
    pub(in crate::kafka) fn body(schema: &Schema, version: i16, seed: u64) -> Vec<u8> {
        let random = SmallRng::seed_from_u64(seed);
        let mut writer = Writer {
            out: Vec::new(),
            random,
            version,
            flexible: schema.is_flexible(version),
        };
        writer.fields(schema.fields);
        writer.out
    }

    fn fields(&mut self, fields: &[Field]) {
        for field in fields {
            if field.at.contain(self.version) && !field.tagged.contain(self.version) {
                self.value(&field.kind, field.nullable.contain(self.version));
            }
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn tags(&mut self, fields: &[Field]) {
        let mut tagged: Vec<&Field> = fields
            .iter()
            .filter(|field| field.tagged.contain(self.version))
            .collect();
        tagged.retain(|_| self.random.random());
        tagged.sort_by_key(|field| field.tag);
        let unknown = self.random.random_range(0..2_u32);
        self.varint(tagged.len() as u32 + unknown);
        for field in tagged {
            let before = std::mem::take(&mut self.out);
            self.value(&field.kind, field.nullable.contain(self.version));
            let content = std::mem::replace(&mut self.out, before);
            self.tag(field.tag, &content);
        }
        if unknown > 0 {
            self.tag(1000, b"unknown");
        }
    }

    fn tag(&mut self, tag: u32, content: &[u8]) {
        self.varint(tag);
        self.varint(content.len() as u32);
        self.out.extend_from_slice(content);
    }

    fn value(&mut self, kind: &Kind, nullable: bool) {
        let null = nullable && self.random.random_range(0..4) == 0;
        match kind {
            Kind::Fixed(bytes) => {
                let mut number = vec![0; *bytes];
                self.random.fill_bytes(&mut number);
                self.out.extend_from_slice(&number);
            }
            Kind::String | Kind::Bytes => {
                let text = vec![b'x'; self.random.random_range(0..20)];
                self.length((!null).then_some(text.len()), matches!(kind, Kind::String));
                if !null {
                    self.out.extend_from_slice(&text);
                }
            }
            Kind::Array(element, _) => {
                let count = self.random.random_range(0..4);
                self.length((!null).then_some(count), false);
                for _ in 0..if null { 0 } else { count } {
                    self.value(element, false);
                }
            }
            Kind::Struct(_) if null => self.out.push(0xff),
            Kind::Struct(fields) => {
                if nullable {
                    self.out.push(1);
                }
                self.fields(fields);
            }
        }
    }

    fn length(&mut self, length: Option<usize>, is_string: bool) {
        match (length, self.flexible, is_string) {
            (length, true, _) => self.varint(length.map_or(0, |length| length as u32 + 1)),
            (length, false, true) => {
                self.out
                    .extend_from_slice(&length.map_or(-1, |length| length as i16).to_be_bytes());
            }
            (length, false, false) => {
                self.out
                    .extend_from_slice(&length.map_or(-1, |length| length as i32).to_be_bytes());
            }
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

/// All requests that the codec can decode, in all versions that it and the table have.
fn all() -> Vec<(&'static Schema, ApiKey, i16)> {
    let mut all = Vec::new();
    for schema in SCHEMAS {
        let Ok(key) = ApiKey::try_from(schema.api_key) else {
            continue;
        };
        let known = key.valid_versions();
        for version in known.min.max(schema.versions.0)..=known.max.min(schema.versions.1) {
            all.push((schema, key, version));
        }
    }
    all
}

fn decode(key: ApiKey, version: i16, body: &[u8]) -> Result<(RequestKind, usize), String> {
    let mut bytes = Bytes::copy_from_slice(body);
    let request = RequestKind::decode(key, &mut bytes, version).map_err(|error| format!("{error:#}"))?;
    Ok((request, bytes.len()))
}

#[test]
fn the_table_has_every_api_that_is_served_in_all_its_versions() {
    for api in crate::kafka::api_versions::APIS {
        let schema = Schema::find(api.key as i16).unwrap();
        assert!(
            schema.versions.contain(api.min) && schema.versions.contain(api.max),
            "{api:?}"
        );
    }
}

#[test]
fn decoded_structures_take_no_more_than_the_table_says() {
    for (name, real, table) in crate::kafka::schema_table::DECODED_BYTES {
        assert!(real <= table, "{name} takes {real} bytes, the table says {table}");
    }
}

#[test]
fn hostile_counts_are_refused_before_anything_is_allocated() {
    let check = |api_key, version, body: &[u8]| Schema::find(api_key).unwrap().check(version, body);
    // The four bytes that ask the codec for 155 GB.
    assert!(matches!(
        check(3, 1, b"\x7f\xff\xff\xff"),
        Err(Malformed::Truncated { .. })
    ));
    assert!(matches!(
        check(3, 1, b"\xff\xff\xff\xfe"),
        Err(Malformed::BadLength { length: -2, .. })
    ));
    assert!(matches!(
        check(3, 0, b"\xff\xff\xff\xff"),
        Err(Malformed::BadLength { length: -1, .. })
    ));
    assert!(matches!(
        check(3, 9, b"\xff\xff\xff\xff\x0f"),
        Err(Malformed::Truncated { .. })
    ));
    assert!(matches!(
        check(3, 9, b"\xff\xff\xff\xff\xff\x01"),
        Err(Malformed::BadTags { .. })
    ));
    // As many empty strings as there are bytes: each would take 32 bytes in memory.
    let mut empties = 1_000_000_u32.to_be_bytes().to_vec();
    empties.resize(4 + 2_000_000, 0);
    assert!(check(15, 0, &empties).is_ok(), "16 times is within proportion");
    let mut filters = vec![0xc1, 0x84, 0x3d];
    filters.resize(3 + 1_000_100, 1);
    assert!(matches!(check(16, 5, &filters), Err(Malformed::TooLarge { .. })));
}

#[test]
fn a_string_is_no_longer_than_kafka_reads_it() {
    // DescribeGroups 5: one group, no operations, no tags.
    let body = |length: u32| {
        let mut body = vec![2];
        let mut rest = length + 1;
        while rest >= 0x80 {
            body.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        body.resize(body.len() + length as usize, b'g');
        body.extend_from_slice(&[0, 0]);
        body
    };
    let check = |length| Schema::find(15).unwrap().check(5, &body(length));
    assert_eq!(check(32_767), Ok(()));
    assert!(matches!(
        check(32_768),
        Err(Malformed::BadLength { length: 32_768, .. })
    ));
    assert!(matches!(
        check(40_000),
        Err(Malformed::BadLength { length: 40_000, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The walker and the codec agree on what a request is, byte for byte, for every API and version there is.
    #[test]
    fn what_follows_the_table_is_let_through_and_decodes(seed: u64) {
        for (schema, key, version) in all() {
            let body = Writer::body(schema, version, seed);
            prop_assert_eq!(schema.check(version, &body), Ok(()), "{:?} v{}: {:?}", key, version, body);
            match decode(key, version, &body) {
                Ok((_, rest)) => prop_assert_eq!(rest, 0, "{:?} v{}", key, version),
                // The codec's list of versions is ahead of its messages in places.
                Err(error) if error.contains("specified version not supported") => {}
                Err(error) => prop_assert!(false, "{key:?} v{version}: {error}: {body:?}"),
            }
        }
    }

    /// Whatever bytes come: no panic here, and none in the codec behind it.
    #[test]
    fn mutated_requests_never_panic(
        seed: u64,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for (schema, key, version) in all() {
            let mut body = Writer::body(schema, version, seed);
            for (place, byte) in &changes {
                if !body.is_empty() {
                    let place = place.index(body.len());
                    body[place] = *byte;
                }
            }
            for body in [&body[..], &body[..cut.index(body.len() + 1)]] {
                if schema.check(version, body).is_ok() {
                    let _ = decode(key, version, body);
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (schema, key, version) in all() {
            if schema.check(version, &body).is_ok() {
                let _ = decode(key, version, &body);
            }
        }
    }
}
