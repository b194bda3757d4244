//! Files that hold more than a scan keeps: values, names, texts, storages.

use flate2::Crc;

/// Makes the content of a file.
type Made = fn() -> Vec<u8>;

/// Names of files, and what makes them. None is safe, because none is followed to its end.
pub(crate) const ALL: [(&str, Made); 11] = [
    ("values.yaml", values),
    ("brackets.yaml", brackets),
    ("tokens.yaml", tokens),
    ("keys.json", keys),
    ("metadata.safetensors", metadata),
    ("memo.pkl", memo),
    ("stack.pkl", stack),
    ("storages.pt", legacy_storages),
    ("pickles.pt", repeated_pickles),
    ("operators.pb", operators),
    ("functions.onnx", functions),
];

fn values() -> Vec<u8> {
    b"a:\n".repeat(340_000)
}

fn brackets() -> Vec<u8> {
    format!("[{}]\n", "a,".repeat(500_000)).into_bytes()
}

fn tokens() -> Vec<u8> {
    format!("[{}]\n", "a:,".repeat(300_000)).into_bytes()
}

fn keys() -> Vec<u8> {
    let mut document = String::from("{\"a\":0");
    for n in 0..1_200_000 {
        document.push_str(&format!(",\"{n:040}\":1"));
    }
    document.push('}');
    document.into_bytes()
}

/// A header that is one long text.
fn metadata() -> Vec<u8> {
    let text = "a".repeat(70_000_000);
    let header = format!("{{\"__metadata__\":{{\"a\":\"{text}\"}}}}");
    let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file
}

/// Texts on the stack and in the memo, and then more values in the memo.
fn memo() -> Vec<u8> {
    let mut pickle = b"\x80\x04".to_vec();
    for n in 0..290_000 {
        pickle.extend(b"\x8c\x08");
        pickle.extend(format!("{n:08}").into_bytes());
        pickle.push(0x94);
    }
    pickle.extend(b"N\x940".repeat(2_000_000));
    pickle
}

fn stack() -> Vec<u8> {
    b"N".repeat(8_000_000)
}

/// A text, as protocol 2 of pickles writes it.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = b"X".to_vec();
    bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// A pickle that refers to storages by these names.
fn storages(names: impl Iterator<Item = String>) -> Vec<u8> {
    let mut pickle = b"\x80\x02ctorch\nFloatStorage\nq\x010".to_vec();
    for name in names {
        pickle.extend(b"(");
        pickle.extend(text("storage"));
        pickle.extend(b"h\x01");
        pickle.extend(text(&name));
        pickle.extend(text("cpu"));
        pickle.extend(b"K\x02tQ0");
    }
    pickle.extend(b"}.");
    pickle
}

/// A file of torch before release 1.6, with long names of storages.
fn legacy_storages() -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    file.extend(storages((0..190_000).map(|n| format!("{n:0199}"))));
    file
}

/// A zip file of torch with a pickle under each way to write its name, and other storages in each.
fn repeated_pickles() -> Vec<u8> {
    let names = [
        "data", "datA", "daTa", "daTA", "dAta", "dAtA", "dATa", "dATA", "Data", "DatA", "DaTa",
        "DaTA",
    ];
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, part) in names.iter().zip(0_u32..) {
        let name = format!("a/{name}.pkl");
        let first = part * 40_000;
        let content = storages((first..first + 40_000).map(|n| format!("{n:032}")));
        let mut crc = Crc::new();
        crc.update(&content);
        let [size, name_bytes] =
            [content.len(), name.len()].map(|count| u32::try_from(count).unwrap());
        // Version, flags, method and time; the member is stored. An extra field is not there.
        let mut header = b"\x14\0\0\0\0\0\0\0\0\0".to_vec();
        for number in [crc.sum(), size, size, name_bytes] {
            header.extend(number.to_le_bytes());
        }
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&header);
        // The comment, the disk and the attributes.
        directory.extend([0; 10]);
        directory.extend(u32::try_from(file.len()).unwrap().to_le_bytes());
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&header);
        file.extend(name.as_bytes());
        file.extend(content);
    }
    let [directory_bytes, start] =
        [directory.len(), file.len()].map(|count| u32::try_from(count).unwrap());
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0\x0c\0\x0c\0");
    file.extend(directory_bytes.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// A field of a message of protocol buffers.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(number << 3) | 2];
    let mut length = content.len();
    while length > 127 {
        bytes.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(content);
    bytes
}

/// A SavedModel with operators of many names.
fn operators() -> Vec<u8> {
    let mut graph = Vec::new();
    for n in 0..400_000 {
        let name = format!("Op{n:0200}");
        graph.extend(field(1, &field(2, name.as_bytes())));
    }
    let mut file = b"\x08\x01".to_vec();
    file.extend(field(2, &field(2, &graph)));
    file
}

/// A model of ONNX with two floats in each of these files.
pub(crate) fn model_with_data(names: &[String]) -> Vec<u8> {
    let mut graph = Vec::new();
    for name in names {
        let location = [field(1, b"location"), field(2, name.as_bytes())].concat();
        // Two elements of the kind of floats, which lie in another file.
        let head: [u8; 6] = [0x08, 2, 0x10, 1, 0x70, 1];
        graph.extend(field(5, &[&head[..], &field(13, &location)].concat()));
    }
    [b"\x08\x08".to_vec(), field(7, &graph)].concat()
}

/// A model of ONNX with operators of many names, and as many functions.
fn functions() -> Vec<u8> {
    let (mut graph, mut functions) = (Vec::new(), Vec::new());
    for n in 0..190_000 {
        let name = format!("{n:0100}");
        let node = [field(4, name.as_bytes()), field(7, name.as_bytes())].concat();
        graph.extend(field(1, &node));
        let mut function = field(25, &[field(1, b"f"), field(10, name.as_bytes())].concat());
        // The number of this field takes two bytes.
        function.insert(1, 1);
        functions.extend(function);
    }
    [b"\x08\x08".to_vec(), field(7, &graph), functions].concat()
}
