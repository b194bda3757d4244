//! A handler that fetches files: those of its config's `urls`, one a line, or a raw body.
//! It answers a bytes element each: the error's name or the media type, a newline, the file.
//! `manner` is `together`, `one-by-one`, `greedy` (without end) or `large` (a forbidden URL).

use tensorgate_handler::{
    Datatype, Error, Failure, File, Payload, Preprocess, Tensor, config, export_preprocess, fetch,
    log,
};

struct Fetching;

impl Preprocess for Fetching {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        log::info("asked");
        let urls = match input {
            Payload::Raw(body) => String::from_utf8(body.data).map_err(Error::bad_input)?,
            Payload::Tensors(_) => config("urls").unwrap_or_default(),
        };
        let urls: Vec<&str> = urls.lines().collect();
        let files: Vec<_> = match config("manner").as_deref() {
            Some("one-by-one") => urls.iter().flat_map(|url| fetch(&[url])).collect(),
            Some("greedy") => (0..1_000_000)
                .flat_map(|number| fetch(&[format!("https://a.example/{number}")]))
                .collect(),
            Some("large") => fetch(&["x".repeat(1 << 20)]),
            Some("many") => fetch(&vec!["x"; 1 << 20]),
            _ => fetch(&urls),
        };
        let mut data = Vec::new();
        for file in &files {
            let told = told(file);
            let bytes = u32::try_from(told.len()).map_err(Error::fault)?;
            data.extend(bytes.to_le_bytes());
            data.extend(told);
        }
        Ok(vec![Tensor {
            name: "came".into(),
            datatype: Datatype::Bytes,
            shape: vec![u64::try_from(files.len()).map_err(Error::fault)?],
            data,
        }])
    }
}

fn told(file: &Result<File, Failure>) -> Vec<u8> {
    match file {
        Ok(file) => [file.content_type.as_bytes(), b"\n", &file.data].concat(),
        Err(failure) => failure.name().as_bytes().to_vec(),
    }
}

export_preprocess!(Fetching);
