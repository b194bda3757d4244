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
        r#"{"error":{"message":"You passed 40961 input tokens and requested 0 output tokens. However, the model's context length is only 40960 tokens","code":400}}"#,
        r#"{"object":"error","message":"The prompt (total length 25938) is too long to fit into the model (context length 4096).","code":400}"#,
        // SGLang.
        r#"{"object":"error","message":"The input (61709 tokens) is longer than the model's context length (40960 tokens).","code":400}"#,
        r#"{"message":"Requested token count exceeds the model's maximum context length of 64 tokens."}"#,
        // llama.cpp and its Python server.
        r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":256}}"#,
        r#"{"error":{"message":"Requested tokens (2285) exceed context window of 2048"}}"#,
        r#"{"error":{"code":400,"message":"Context size has been exceeded.","type":"server_error"}}"#,
        // Ollama and LM Studio.
        r#"{"error":"the input length exceeds the context length"}"#,
        r#"{"error":"Trying to keep the first 9000 tokens. However, the model is loaded with context length of only 4096 tokens"}"#,
        r#"{"error":"Reached context length of 4096 tokens with model (arch: llama) that does not currently support mid-generation context overflow."}"#,
        r#"{"error":{"message":"Context length exceeded","code":400}}"#,
        // TGI.
        r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000","error_type":"validation"}"#,
        r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 1168","error_type":"validation"}"#,
        // TensorRT-LLM.
        r#"{"error":"Prompt length (5000) exceeds maximum input length (4096)"}"#,
        r#"{"object":"error","message":"The sum of prompt length (72417.0), query length (0) should not exceed max_num_tokens (69632)","code":400}"#,
        r#"{"object":"error","message":"`default_max_tokens` (-152) must be greater than 0, `default_max_tokens` (-152) = max_seq_len (8192) - `splited_prompt_len` (8000) - `query_token_len` (344)"}"#,
        r#"{"object":"error","message":"`prompt_token_ids` length (9000) is greater than `max_seq_len` (8192)"}"#,
        r#"{"object":"error","message":"Deduced max_tokens -2 is less than 0, becauseprompt length 4098 plus query length 0 is larger than max_seq_len 4096"}"#,
        // Providers, and proxies of several.
        r#"{"error":{"message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#,
        r#"{"error":{"message":"input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"}}"#,
        r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 262144"}}"#,
        r#"{"error":{"message":"Prompt exceeds max length"}}"#,
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
        // Of the output alone: a shorter prompt would not help.
        (
            OpenAi,
            BadRequest,
            "max_tokens is too large: 100000. This model supports at most 4096 completion tokens",
            InvalidParameter,
        ),
        (
            OpenAi,
            BadRequest,
            "max_tokens=9000 cannot be greater than max_model_len=8192",
            InvalidParameter,
        ),
        (
            OpenAi,
            BadRequest,
            "Invalid 'metadata.key': string too long. Expected at most 64 characters",
            InvalidParameter,
        ),
        (
            OpenAi,
            BadRequest,
            "temperature must be greater than 0",
            InvalidParameter,
        ),
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
