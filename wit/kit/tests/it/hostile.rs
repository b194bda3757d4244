//! Hostile input: dimensions that overflow, files with false headers, unbounded arguments. Each
//! fails quickly with the right kind, without a panic.

use tensorgate_kit::{
    Array, Channels, Datatype, Filter, Kind, MAX_DIMS, Operator, Reduction, Span, decode_image,
    decode_wav,
};

fn of(values: &[f32], shape: &[usize]) -> Array {
    Array::from_bytes(Datatype::Fp32, shape, bytemuck::cast_slice(values)).unwrap()
}

fn kind<T>(found: Result<T, tensorgate_kit::Failure>) -> Kind {
    found.map(drop).unwrap_err().kind
}

const HUGE: usize = u32::MAX as usize;

#[test]
fn sizes_that_overflow_are_refused_before_memory_is_made() {
    let one = of(&[1.0; 4], &[2, 2]);
    let empty = Array::full(Datatype::Fp32, &[0, HUGE.min(1 << 20)], 0.0).unwrap();
    for (what, found) in [
        (
            "full",
            Array::full(Datatype::Fp64, &[HUGE, HUGE, HUGE], 0.0).map(drop),
        ),
        (
            "beside 0",
            Array::full(Datatype::Fp64, &[0, HUGE, HUGE], 0.0).map(drop),
        ),
        (
            "dims",
            Array::full(Datatype::Uint8, &[1; MAX_DIMS + 1], 0.0).map(drop),
        ),
        ("pad", one.pad(&[0, 0], &[HUGE, HUGE], 0.0).map(drop)),
        (
            "pad further",
            one.pad(&[usize::MAX, 0], &[usize::MAX, 0], 0.0).map(drop),
        ),
        ("fit", one.fit(0, usize::MAX, 0.0).map(drop)),
        (
            "resize",
            one.resize(0, HUGE, HUGE, Filter::Antialias).map(drop),
        ),
        (
            "resize to nothing",
            one.resize(0, 0, 4, Filter::Nearest).map(drop),
        ),
        (
            "resize nothing",
            empty.resize(0, 4, 4, Filter::Bilinear).map(drop),
        ),
        ("reshape", one.reshape(&[HUGE, HUGE]).map(drop)),
    ] {
        assert_eq!(kind(found), Kind::Room, "{what}");
    }
    let column = Array::full(Datatype::Uint8, &[1 << 20, 1], 0.0).unwrap();
    let row = Array::full(Datatype::Uint8, &[1 << 20], 0.0).unwrap();
    assert_eq!(kind(column.combine(Operator::Add, &row)), Kind::Room);
}

#[test]
fn arguments_that_do_not_fit_are_values_and_types() {
    let a = of(&[1.0, 2.0, f32::NAN, 4.0], &[2, 2]);
    let integers = a.cast(Datatype::Int8);
    assert_eq!(kind(integers), Kind::Overflow);
    let step = |step| Span {
        start: 1,
        count: 2,
        step,
    };
    for (what, found) in [
        (
            "bytes",
            Array::from_bytes(Datatype::Fp32, &[3], &[0; 11]).map(drop),
        ),
        ("axes", a.transpose(&[0, 0]).map(drop)),
        ("axes", a.transpose(&[0, 2]).map(drop)),
        ("spans", a.slice(&[step(1)]).map(drop)),
        ("beyond", a.slice(&[step(1), step(1)]).map(drop)),
        ("before", a.slice(&[step(-2), step(-1)]).map(drop)),
        ("no step", a.slice(&[step(0), step(0)]).map(drop)),
        (
            "far",
            a.slice(&[step(isize::MIN), step(isize::MAX)]).map(drop),
        ),
        ("gather", a.gather(0, &[2]).map(drop)),
        ("axis", a.gather(2, &[0]).map(drop)),
        (
            "axis",
            a.reduce(Reduction::Sum, Some(usize::MAX), true).map(drop),
        ),
        (
            "axis",
            a.resize(usize::MAX, 1, 1, Filter::Nearest).map(drop),
        ),
        ("top-k", a.top_k(3).map(drop)),
        ("top-k", a.top_k(usize::MAX).map(drop)),
        ("softmax", a.softmax(2).map(drop)),
        ("planes", a.planes(1.0, &[0.0], &[1.0]).map(drop)),
        (
            "std",
            a.reshape(&[1, 2, 2])
                .unwrap()
                .planes(1.0, &[0.0; 2], &[1.0, 0.0])
                .map(drop),
        ),
        ("concat", Array::concat(&[], 0).map(drop)),
        (
            "concat",
            Array::concat(&[&a, &of(&[1.0; 3], &[3])], 0).map(drop),
        ),
        ("concat", Array::concat(&[&a], 2).map(drop)),
        ("boxes", a.nms(&a, None, 0.5, 0.0, 1).map(drop)),
        (
            "corner",
            of(&[0.0, 0.0, f32::NAN, 1.0], &[1, 4])
                .nms(&of(&[1.0], &[1]), None, 0.5, 0.0, 1)
                .map(drop),
        ),
        (
            "scores",
            of(&[0.0; 4], &[1, 4]).nms(&a, None, 0.5, 0.0, 1).map(drop),
        ),
        (
            "nothing",
            Array::full(Datatype::Fp32, &[0], 0.0)
                .unwrap()
                .reduce(Reduction::Argmax, None, false)
                .map(drop),
        ),
    ] {
        assert_eq!(kind(found), Kind::Value, "{what}");
    }
    let zero = Array::full(Datatype::Int64, &[4], 0.0).unwrap();
    let least = Array::from_bytes(Datatype::Int64, &[1], &i64::MIN.to_le_bytes()).unwrap();
    let minus = Array::full(Datatype::Int64, &[1], -1.0).unwrap();
    for operator in [Operator::Divide, Operator::FloorDivide, Operator::Remainder] {
        assert_eq!(
            kind(zero.combine(operator, &zero)),
            Kind::Division,
            "{operator:?}"
        );
    }
    assert_eq!(
        kind(least.combine(Operator::FloorDivide, &minus)),
        Kind::Overflow
    );
    assert_eq!(kind(least.combine(Operator::Add, &minus)), Kind::Overflow);
    assert_eq!(
        kind(least.apply(tensorgate_kit::Function::Absolute)),
        Kind::Overflow
    );
    assert_eq!(
        kind(
            least
                .cast(Datatype::Int64)
                .unwrap()
                .to_bytes(Datatype::Fp32)
        ),
        Kind::Datatype
    );
    let bytes = Array::full(Datatype::Uint8, &[4], 200.0).unwrap();
    assert_eq!(
        kind(bytes.combine_number(Operator::Add, 100.0, false, false)),
        Kind::Overflow
    );
    assert_eq!(
        kind(Array::full(Datatype::Uint8, &[1], 256.0)),
        Kind::Overflow
    );
    assert_eq!(kind(bytes.resize(0, 1, 1, Filter::Bilinear)), Kind::Value);
}

#[test]
fn an_empty_array_goes_through_what_does_not_choose() {
    let empty = Array::full(Datatype::Fp32, &[0, 3], 0.0).unwrap();
    assert_eq!(empty.transpose(&[1, 0]).unwrap().shape(), [3, 0]);
    assert_eq!(
        empty.combine(Operator::Add, &empty).unwrap().shape(),
        [0, 3]
    );
    assert_eq!(
        empty
            .reduce(Reduction::Sum, Some(0), false)
            .unwrap()
            .shape(),
        [3]
    );
    assert_eq!(empty.softmax(0).unwrap().shape(), [0, 3]);
    assert_eq!(empty.top_k(2).unwrap().0.shape(), [0, 2]);
    assert_eq!(Array::concat(&[&empty, &empty], 1).unwrap().shape(), [0, 6]);
    let boxes = Array::full(Datatype::Fp32, &[0, 4], 0.0).unwrap();
    let scores = Array::full(Datatype::Fp32, &[0], 0.0).unwrap();
    assert_eq!(boxes.nms(&scores, None, 0.5, 0.0, 9).unwrap().shape(), [0]);
}

/// The first bytes of a PNG, up to the end of its header, with any size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    drop(encoder.write_header().unwrap());
    bytes
}

/// A progressive JPEG of 8×8 pixels, grey, of one colour, with this number of scans.
fn scanned(scans: u8) -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff\xdb\x00\x43\x00".to_vec();
    bytes.extend([1; 64]);
    bytes.extend(b"\xff\xc2\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00");
    // Each table has one code: a difference of zero, and the end of the block.
    for (table, symbol) in [(0x00, 0), (0x10, 0)] {
        bytes.extend([0xff, 0xc4, 0, 20, table, 1]);
        bytes.extend([0; 15]);
        bytes.push(symbol);
    }
    bytes.extend(b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x7f");
    for _ in 1..scans {
        bytes.extend(b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x7f");
    }
    bytes.extend(b"\xff\xd9");
    bytes
}

#[test]
fn a_progressive_picture_goes_over_its_pixels_a_few_times_and_no_more() {
    let decoded = |scans| decode_image(&scanned(scans), Channels::Gray, 64);
    assert_eq!(decoded(12).unwrap().shape(), [8, 8, 1]);
    for scans in [20, 90] {
        assert_eq!(kind(decoded(scans)), Kind::Data, "{scans}");
    }
}

#[test]
fn a_file_of_an_enormous_claimed_size_is_refused_by_its_header() {
    let jpeg = |width: u16, height: u16| {
        let mut bytes = b"\xff\xd8\xff\xc0\x00\x11\x08".to_vec();
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes.extend(b"\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00\x00\x3f\x00");
        bytes
    };
    // It is invalid data, not a fault of the handler.
    for (bytes, enormous) in [
        (png_header(i32::MAX as u32, i32::MAX as u32), true),
        (png_header(1 << 16, 1 << 16), true),
        (png_header(101, 100), true),
        (png_header(100, 100), false),
        (jpeg(65_535, 65_535), true),
        (jpeg(101, 100), true),
        (b"GIF89a".to_vec(), false),
        (Vec::new(), false),
    ] {
        let failure = decode_image(&bytes, Channels::Rgb, 10_000).unwrap_err();
        assert_eq!(failure.kind, Kind::Data, "{failure}");
        let is_size_limit = failure.message.contains("pixels, at most 10000");
        assert_eq!(is_size_limit, enormous, "{failure}");
    }
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\xff\xff\xff\xff".to_vec();
    assert_eq!(kind(decode_wav(&wav, 4)), Kind::Data);
    let at = wav.len() - 4;
    wav[at..].copy_from_slice(&5_u32.to_le_bytes());
    wav.extend([128; 5]);
    let failure = decode_wav(&wav, 4).unwrap_err();
    assert_eq!(failure.kind, Kind::Data);
    assert!(failure.message.contains("5 frames, at most 4"), "{failure}");
    assert_eq!(decode_wav(&wav, 5).unwrap().0.shape(), [5, 1]);
}

/// Every file of the reference, truncated or with a byte changed: a result or a failure, and never
/// more pixels than allowed.
#[test]
fn damaged_files_are_failures_or_pixels_and_never_a_panic() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../reference.json")).unwrap();
    let files = cases.iter().filter_map(|case| case["file"].as_str());
    let mut seed = 1_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize
    };
    let mut tried = 0;
    for file in files {
        let original: Vec<u8> = file
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        for _ in 0..60 {
            let mut bytes = original.clone();
            if random() % 3 == 0 {
                bytes.truncate(random() % original.len());
            }
            for _ in 0..random() % 4 {
                if let Some(byte) = {
                    let at = random() % original.len();
                    bytes.get_mut(at)
                } {
                    *byte = random() as u8;
                }
            }
            if let Ok(image) = decode_image(&bytes, Channels::Rgb, 4_096) {
                assert!(image.len() <= 3 * 4_096);
            }
            if let Ok((samples, _)) = decode_wav(&bytes, 64) {
                assert!(samples.shape()[0] <= 64);
            }
            tried += 1;
        }
    }
    assert!(tried > 1_000);
}
