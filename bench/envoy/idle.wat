;; The least work that a module can do for a request. With HELD 1 it buffers the head until the body is
;; complete and copies the body into its memory. With HELD 0 it forwards everything. It reads nothing.
(module
  (import "env" "proxy_get_buffer_bytes" (func $copy (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 320)
  (func (export "proxy_abi_version_0_2_1"))
  ;; All memory but the first page is for the copy: a callback handles one request at a time.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const HELD))
  (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $last i32) (result i32)
    (if (i32.eqz (i32.const HELD)) (then (return (i32.const 0))))
    (if (i32.eqz (local.get $last)) (then (return (i32.const 1))))
    (drop (call $copy (i32.const 0) (i32.const 0) (local.get $size) (i32.const 0) (i32.const 4)))
    (i32.const 0)))
