//! Hostile input: dimensions that overflow, files with false headers, unbounded arguments. Each
//! fails quickly with the right kind, without a panic.

use tensorgate_kit::{
    Array, Channels, Datatype, Filter, Function, Kind, MAX_DIMS, Operator, Reduction, Span,
    arithmetic, boxes, decode_image, decode_wav, moves, planes, reduce, resize, unary,
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
        (
            "pad",
            moves::pad(&one, &[0, 0], &[HUGE, HUGE], 0.0).map(drop),
        ),
        (
            "pad further",
            moves::pad(&one, &[usize::MAX, 0], &[usize::MAX, 0], 0.0).map(drop),
        ),
        ("fit", moves::fit(&one, 0, usize::MAX, 0.0).map(drop)),
        (
            "resize",
            resize::resize(&one, 0, HUGE, HUGE, Filter::Antialias).map(drop),
        ),
        (
            "resize to nothing",
            resize::resize(&one, 0, 0, 4, Filter::Nearest).map(drop),
        ),
        (
            "resize nothing",
            resize::resize(&empty, 0, 4, 4, Filter::Bilinear).map(drop),
        ),
        ("reshape", moves::reshape(&one, &[HUGE, HUGE]).map(drop)),
    ] {
        assert_eq!(kind(found), Kind::Room, "{what}");
    }
    let column = Array::full(Datatype::Uint8, &[1 << 20, 1], 0.0).unwrap();
    let row = Array::full(Datatype::Uint8, &[1 << 20], 0.0).unwrap();
    assert_eq!(
        kind(arithmetic::combine(&column, Operator::Add, &row)),
        Kind::Room
    );
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
        ("axes", moves::transpose(&a, &[0, 0]).map(drop)),
        ("axes", moves::transpose(&a, &[0, 2]).map(drop)),
        ("spans", moves::slice(&a, &[step(1)]).map(drop)),
        ("beyond", moves::slice(&a, &[step(1), step(1)]).map(drop)),
        ("before", moves::slice(&a, &[step(-2), step(-1)]).map(drop)),
        ("no step", moves::slice(&a, &[step(0), step(0)]).map(drop)),
        (
            "far",
            moves::slice(&a, &[step(isize::MIN), step(isize::MAX)]).map(drop),
        ),
        ("gather", moves::gather(&a, 0, &[2]).map(drop)),
        ("axis", moves::gather(&a, 2, &[0]).map(drop)),
        (
            "axis",
            reduce::reduce(&a, Reduction::Sum, Some(usize::MAX), true).map(drop),
        ),
        (
            "axis",
            resize::resize(&a, usize::MAX, 1, 1, Filter::Nearest).map(drop),
        ),
        ("top-k", reduce::top_k(&a, 3).map(drop)),
        ("top-k", reduce::top_k(&a, usize::MAX).map(drop)),
        ("softmax", reduce::softmax(&a, 2).map(drop)),
        ("planes", planes::planes(&a, 1.0, &[0.0], &[1.0]).map(drop)),
        (
            "std",
            planes::planes(
                &moves::reshape(&a, &[1, 2, 2]).unwrap(),
                1.0,
                &[0.0; 2],
                &[1.0, 0.0],
            )
            .map(drop),
        ),
        ("concat", moves::concat(&[], 0).map(drop)),
        (
            "concat",
            moves::concat(&[&a, &of(&[1.0; 3], &[3])], 0).map(drop),
        ),
        ("concat", moves::concat(&[&a], 2).map(drop)),
        ("boxes", boxes::nms(&a, &a, None, 0.5, 0.0, 1).map(drop)),
        (
            "corner",
            boxes::nms(
                &of(&[0.0, 0.0, f32::NAN, 1.0], &[1, 4]),
                &of(&[1.0], &[1]),
                None,
                0.5,
                0.0,
                1,
            )
            .map(drop),
        ),
        (
            "scores",
            boxes::nms(&of(&[0.0; 4], &[1, 4]), &a, None, 0.5, 0.0, 1).map(drop),
        ),
        (
            "nothing",
            reduce::reduce(
                &Array::full(Datatype::Fp32, &[0], 0.0).unwrap(),
                Reduction::Argmax,
                None,
                false,
            )
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
            kind(arithmetic::combine(&zero, operator, &zero)),
            Kind::Division,
            "{operator:?}"
        );
    }
    assert_eq!(
        kind(arithmetic::combine(&least, Operator::FloorDivide, &minus)),
        Kind::Overflow
    );
    assert_eq!(
        kind(arithmetic::combine(&least, Operator::Add, &minus)),
        Kind::Overflow
    );
    assert_eq!(
        kind(unary::apply(&least, Function::Absolute)),
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
        kind(arithmetic::combine_number(
            &bytes,
            Operator::Add,
            100.0,
            false,
            false
        )),
        Kind::Overflow
    );
    assert_eq!(
        kind(Array::full(Datatype::Uint8, &[1], 256.0)),
        Kind::Overflow
    );
    assert_eq!(
        kind(resize::resize(&bytes, 0, 1, 1, Filter::Bilinear)),
        Kind::Value
    );
}

#[test]
fn an_empty_array_goes_through_what_does_not_choose() {
    let empty = Array::full(Datatype::Fp32, &[0, 3], 0.0).unwrap();
    assert_eq!(moves::transpose(&empty, &[1, 0]).unwrap().shape(), [3, 0]);
    assert_eq!(
        arithmetic::combine(&empty, Operator::Add, &empty)
            .unwrap()
            .shape(),
        [0, 3]
    );
    assert_eq!(
        reduce::reduce(&empty, Reduction::Sum, Some(0), false)
            .unwrap()
            .shape(),
        [3]
    );
    assert_eq!(reduce::softmax(&empty, 0).unwrap().shape(), [0, 3]);
    assert_eq!(reduce::top_k(&empty, 2).unwrap().0.shape(), [0, 2]);
    assert_eq!(moves::concat(&[&empty, &empty], 1).unwrap().shape(), [0, 6]);
    let boxes = Array::full(Datatype::Fp32, &[0, 4], 0.0).unwrap();
    let scores = Array::full(Datatype::Fp32, &[0], 0.0).unwrap();
    assert_eq!(
        boxes::nms(&boxes, &scores, None, 0.5, 0.0, 9)
            .unwrap()
            .shape(),
        [0]
    );
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
    let gif = |width: u16, height: u16| {
        let mut bytes = b"GIF89a".to_vec();
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend(b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0");
        bytes
    };
    // An extended WebP of one size with a lossy image of another.
    let webp = |width: u8, height: u8, lossy: u16| {
        let mut bytes = b"RIFF\x2a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
        bytes.extend([width - 1, 0, 0, height - 1, 0, 0]);
        bytes.extend(b"VP8 \x0a\0\0\0\x10\0\0\x9d\x01\x2a");
        bytes.extend(lossy.to_le_bytes());
        bytes.extend(lossy.to_le_bytes());
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
        (gif(65_535, 65_535), true),
        (gif(101, 100), true),
        (b"GIF89a".to_vec(), false),
        (webp(10, 10, 16_383), true),
        (webp(101, 100, 16), true),
        (webp(16, 16, 16), false),
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

/// A chunk of a WebP file, and a lossy image's header of a size.
fn webp_chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [name.as_slice(), &length, content].concat()
}

fn lossy_header(side: u16) -> Vec<u8> {
    let side = side.to_le_bytes();
    [b"\x10\0\0\x9d\x01\x2a".as_slice(), &side, &side, &[0; 14]].concat()
}

/// The decoder allocates memory for the size that such an image states, wherever it stands.
#[test]
fn a_lossy_webp_of_another_size_than_its_frame_does_not_reach_the_decoder() {
    // A frame of 10 × 10 pixels, before its chunks.
    let frame = |chunks: &[u8]| {
        let header = [0_u8, 0, 0, 0, 0, 0, 9, 0, 0, 9, 0, 0, 0, 0, 0, 0];
        webp_chunk(b"ANMF", &[header.as_slice(), chunks].concat())
    };
    let file = |flags: u8, chunks: &[Vec<u8>]| {
        let canvas = webp_chunk(b"VP8X", &[flags, 0, 0, 0, 9, 0, 0, 9, 0, 0]);
        let content = [b"WEBP".to_vec(), canvas, chunks.concat()].concat();
        webp_chunk(b"RIFF", &content)
    };
    // Its first byte says that the pixels follow as they are.
    let alpha = webp_chunk(b"ALPH", &[0; 102]);
    let animation = webp_chunk(b"ANIM", &[0; 6]);
    let mut beyond_file = webp_chunk(b"JUNK", &[0; 8]);
    beyond_file[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    for (what, bytes) in [
        (
            "a chunk of another name behind alpha",
            file(
                0x12,
                &[
                    animation.clone(),
                    frame(&[alpha, webp_chunk(b"JUNK", &lossy_header(16_383))].concat()),
                ],
            ),
        ),
        (
            "a frame with a chunk beyond the file",
            file(
                0,
                &[
                    frame(&beyond_file),
                    webp_chunk(b"VP8 ", &lossy_header(16_383)),
                ],
            ),
        ),
        (
            "a frame's image of a smaller size",
            file(
                0x02,
                &[animation, frame(&webp_chunk(b"VP8 ", &lossy_header(9)))],
            ),
        ),
    ] {
        let failure = decode_image(&bytes, Channels::Rgb, 10_000).unwrap_err();
        assert_eq!(failure.kind, Kind::Data, "{what}: {failure}");
        let is_ours = ["pixels, at most 10000", "a damaged WebP: a frame"]
            .iter()
            .any(|text| failure.message.contains(text));
        assert!(is_ours, "{what}: {failure}");
    }
}

#[test]
fn a_truncated_jpeg_is_refused_wherever_it_ends() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../reference.json")).unwrap();
    let mut tried = 0;
    for file in cases.iter().filter_map(|case| case["file"].as_str()) {
        if !file.starts_with("ffd8") {
            continue;
        }
        // Two digits are a byte. Without the last marker, a baseline image is complete.
        for end in (0..=file.len() / 2 - 3).rev().step_by(13) {
            let bytes: Vec<u8> = (0..end)
                .map(|at| u8::from_str_radix(&file[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            let found = decode_image(&bytes, Channels::Rgb, 4_096);
            assert_eq!(kind(found), Kind::Data, "{end} bytes of {file}");
            tried += 1;
        }
    }
    assert!(tried > 500);
}

#[test]
fn a_jpeg_of_an_unsupported_kind_is_refused_by_name() {
    let frame = |marker: u8, bits: u8, components: u8| {
        let length = 8 + 3 * components;
        let mut bytes = vec![
            0xff, 0xd8, 0xff, marker, 0, length, bits, 0, 8, 0, 8, components,
        ];
        for id in 0..components {
            bytes.extend([id, 0x11, 0]);
        }
        bytes
    };
    for (bytes, message) in [
        (frame(0xc0, 8, 4), "a JPEG of 4 components"),
        (frame(0xc1, 12, 3), "a JPEG of 12 bits"),
        (frame(0xc3, 8, 3), "lossless"),
        (frame(0xc9, 8, 3), "arithmetic-coded"),
    ] {
        let failure = decode_image(&bytes, Channels::Rgb, 64).unwrap_err();
        assert_eq!(failure.kind, Kind::Data);
        assert!(failure.message.contains(message), "{failure}");
    }
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
