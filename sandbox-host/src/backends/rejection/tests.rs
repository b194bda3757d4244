//! Tests with the texts of real servers, and of a hostile one.

use ClientErrorStatus::{
    BadRequest, ContentTooLarge, NotFound, TooManyRequests, UnprocessableContent,
};
use http::HeaderValue;
use http::header::RETRY_AFTER;
use tonic::Code;

use super::Category::{Busy, InvalidParameter, TooLong, UnknownModel};
use super::*;

#[test]
fn servers_of_language_models_say_that_an_input_is_too_long() {
    for text in [
        // OpenAI and vLLM, of several releases.
        r#"{"error":{"message":"x","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        r#"{"object":"error","message":"This model's maximum context length is 16384 tokens. However, you requested 122946 tokens.","type":"BadRequestError","param":null,"code":400}"#,
        r#"{"error":{"message":"The decoder prompt (length 9000) is longer than the maximum model length of 8192."}}"#,
        r#"{"error":{"message":"You passed 65 input tokens. However, the model's context length is only 64 tokens. Please reduce the length of the input prompt."}}"#,
        r#"{"object":"error","message":"max_tokens must be at least 1, got -186.","code":400}"#,
        // SGLang.
        r#"{"object":"error","message":"The input (61709 tokens) is longer than the model's context length (40960 tokens).","code":400}"#,
        r#"{"message":"Requested token count exceeds the model's maximum context length of 64 tokens."}"#,
        // llama.cpp and its Python server.
        r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":256}}"#,
        r#"{"error":{"message":"Requested tokens (2285) exceed context window of 2048"}}"#,
        // Ollama and LM Studio.
        r#"{"error":"the input length exceeds the context length"}"#,
        r#"{"error":"Trying to keep the first 9000 tokens. However, the model is loaded with context length of only 4096 tokens"}"#,
        // TGI.
        r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000","error_type":"validation"}"#,
        r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 1168","error_type":"validation"}"#,
        // TensorRT-LLM, and a proxy of providers.
        r#"{"error":"Prompt length (5000) exceeds maximum input length (4096)"}"#,
        r#"{"error":{"message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#,
    ] {
        for kind in [ServerKind::OpenAi, ServerKind::HttpJson] {
            for status in [BadRequest, UnprocessableContent] {
                assert_eq!(category(kind, status, text.as_bytes()), TooLong, "{text}");
            }
        }
    }
}

#[test]
fn the_status_or_the_text_decides_and_an_unknown_text_is_an_invalid_parameter() {
    use ServerKind::{HttpJson, OpenAi, OpenInference, TfServing, TorchServe};
    for (kind, status, text, expected) in [
        (OpenAi, BadRequest, "model_not_found", UnknownModel),
        (OpenAi, BadRequest, "Model not found", UnknownModel),
        (OpenAi, BadRequest, "", InvalidParameter),
        (
            OpenAi,
            BadRequest,
            "top_p must be in (0, 1]",
            InvalidParameter,
        ),
        (OpenAi, BadRequest, "rate limit", InvalidParameter),
        (OpenAi, NotFound, "maximum context length", UnknownModel),
        (OpenAi, ContentTooLarge, "", TooLong),
        (OpenAi, TooManyRequests, "context_length_exceeded", Busy),
        (HttpJson, UnprocessableContent, "x", InvalidParameter),
        (OpenInference, BadRequest, "Model m not found", UnknownModel),
        (
            OpenInference,
            BadRequest,
            "unexpected shape for input 'x' for model 'm'",
            InvalidParameter,
        ),
        (TorchServe, BadRequest, "maximum sequence length", TooLong),
        (TfServing, BadRequest, "context size", InvalidParameter),
        // Both parts of a pattern stand near each other.
        (OpenAi, BadRequest, "exceeds the context size", TooLong),
        (
            OpenAi,
            BadRequest,
            "exceeds what is allowed. The next sentence is of something else, of the context size",
            InvalidParameter,
        ),
        (
            OpenAi,
            BadRequest,
            "context size, which it exceeds",
            InvalidParameter,
        ),
    ] {
        let found = category(kind, status, text.as_bytes());
        assert_eq!(found, expected, "{kind:?} {status:?} {text}");
    }
    let broken = category(OpenAi, BadRequest, b"\xffMAXIMUM CONTEXT LENGTH\xff\xfe");
    assert_eq!(broken, TooLong);
}

#[test]
fn a_grpc_status_is_the_clients_or_the_servers_fault() {
    use ProtocolAdapter::{OpenInference, TfServing, TorchServe};
    let large = "CLIENT: Received message larger than max (5000000 vs. 4194304)";
    for (protocol, code, text, expected) in [
        (
            OpenInference,
            Code::InvalidArgument,
            "x",
            Some((BadRequest, InvalidParameter)),
        ),
        (
            TfServing,
            Code::NotFound,
            "Servable not found for request: Latest(m)",
            Some((NotFound, UnknownModel)),
        ),
        (
            TorchServe,
            Code::FailedPrecondition,
            "x",
            Some((UnprocessableContent, InvalidParameter)),
        ),
        (TfServing, Code::FailedPrecondition, "not initialized", None),
        (
            OpenInference,
            Code::ResourceExhausted,
            "the queue is full",
            Some((TooManyRequests, Busy)),
        ),
        (
            TfServing,
            Code::ResourceExhausted,
            large,
            Some((ContentTooLarge, TooLong)),
        ),
        (
            TfServing,
            Code::ResourceExhausted,
            "OOM when allocating tensor with shape[64]",
            None,
        ),
        (
            OpenInference,
            Code::ResourceExhausted,
            "Failed to allocate request for 8.00GiB on device ordinal 0",
            None,
        ),
        (OpenInference, Code::OutOfRange, "x", None),
        (OpenInference, Code::Unauthenticated, "x", None),
        (OpenInference, Code::PermissionDenied, "x", None),
        (OpenInference, Code::Unavailable, "x", None),
        (OpenInference, Code::Internal, "Model m not found", None),
    ] {
        let found = Rejection::from_grpc(protocol, &Status::new(code, text));
        let found = found.map(|rejection| (rejection.status, rejection.category));
        assert_eq!(found, expected, "{protocol:?} {code:?} {text}");
    }
}

#[test]
fn only_a_short_number_of_seconds_is_read_and_only_of_a_busy_server() {
    for (value, expected) in [
        ("7", 7),
        ("3600", 3_600),
        ("0", DEFAULT_RETRY_AFTER_S),
        ("", DEFAULT_RETRY_AFTER_S),
        ("3601", DEFAULT_RETRY_AFTER_S),
        ("00007", DEFAULT_RETRY_AFTER_S),
        ("-1", DEFAULT_RETRY_AFTER_S),
        ("+7", DEFAULT_RETRY_AFTER_S),
        ("1.5", DEFAULT_RETRY_AFTER_S),
        ("Wed, 21 Oct 2026 07:28:00 GMT", DEFAULT_RETRY_AFTER_S),
        ("99999999999999999999", DEFAULT_RETRY_AFTER_S),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
        let of = |status| Rejection::from_http(ServerKind::OpenAi, status, &headers, b"");
        let denial = of(TooManyRequests).to_denial(String::new());
        assert_eq!(denial.retry_after_s, Some(expected), "{value}");
        assert_eq!(of(BadRequest).retry_after_s, None, "{value}");
    }
}

#[test]
fn the_log_has_one_bounded_line_of_a_hostile_text() {
    let text = format!("a\r\n\u{1b}[2J\u{202e}{}", "\u{e0041}".repeat(10_000));
    let rejection = Rejection::from_http(
        ServerKind::HttpJson,
        BadRequest,
        &HeaderMap::new(),
        text.as_bytes(),
    );
    let logged = rejection.to_string();
    let start = "400 Bad Request: a\\r\\n\\u{1b}[2J\\u{202e}\\u{e0041}";
    assert!(logged.starts_with(start), "{logged}");
    assert!(logged.len() < 4 * MAX_TEXT_BYTES, "{}", logged.len());
    let denial = rejection.to_denial(logged);
    assert_eq!(denial.reason, Reason::BackendRejected);
    assert_eq!((denial.http_status(), denial.field), (400, None));
}
