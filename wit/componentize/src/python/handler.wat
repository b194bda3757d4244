;; The component of a Python handler: its memory image and its calls, around the imported runtime.
;; A line that begins with the name of an interface or a world is left out without it. `images` is
;; the tensor kit, which decodes them. `compose` needs all imports before the first module.
(component
  (import "tensorgate:handler/types@0.2.0" (instance $types
    (type $datatypes (enum "bool" "uint8" "uint16" "uint32" "uint64" "int8" "int16" "int32" "int64"
      "fp16" "bf16" "fp32" "fp64" "bytes"))
    (export "datatype" (type $datatype (eq $datatypes)))
    (type $record (record (field "name" string) (field "datatype" $datatype)
      (field "shape" (list u64)) (field "data" (list u8))))
    (export "tensor" (type (eq $record)))
    (type $body (record (field "content-type" string) (field "data" (list u8))))
    (export "raw-body" (type (eq $body)))))
  (alias export $types "tensor" (type $types-tensor))
  (import "tensor" (type $tensor (eq $types-tensor)))
  (;preprocess;) (alias export $types "raw-body" (type $types-body))
  (;preprocess;) (import "raw-body" (type $raw-body (eq $types-body)))
  (;preprocess;) (type $cases (variant (case "tensors" (list $tensor)) (case "raw" $raw-body)))
  (;preprocess;) (import "payload" (type $payload (eq $cases)))
  (import "tensorgate:handler/errors@0.2.0" (instance $errors
    (type $fields (record (field "log" string) (field "caller" (option string))))
    (export "rejection" (type $rejection (eq $fields)))
    (type $cases (variant (case "bad-input" $rejection) (case "fault" string)))
    (export "error" (type (eq $cases)))))
  (alias export $errors "error" (type $errors-error))
  (import "error" (type $error (eq $errors-error)))
  (import "tensorgate:handler/config@0.2.0" (instance $config
    (export "get" (func (param "key" string) (result (option string))))))
  (import "tensorgate:handler/log@0.2.0" (instance $log
    (type $levels (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $levels)))
    (export "write" (func (param "level" $level) (param "message" string)))))
  (import "tensorgate:handler/context@0.2.0" (instance $context
    (type $cases (variant (case "bool" bool) (case "int64" s64) (case "uint64" u64)
      (case "double" f64) (case "text" string)))
    (export "parameter" (type $parameter (eq $cases)))
    (type $tensor (record (field "name" string) (field "shape" (list u64))))
    (export "tensor-shape" (type $tensor-shape (eq $tensor)))
    (type $body (record (field "tensors" (list $tensor-shape))
      (field "media-type" (option string)) (field "media-bytes" u64)))
    (export "input" (type $input (eq $body)))
    (type $fields (record (field "request-id" string) (field "client" string)
      (field "model" string) (field "version" string) (field "operation" string)
      (field "time" u64) (field "parameters" (list (tuple string $parameter)))
      (field "input" $input)))
    (export "request" (type $request (eq $fields)))
    (export "get" (func (result $request)))))
  (import "tensorgate:handler/carry@0.2.0" (instance $carry
    (export "set" (func (param "data" (list u8))))
    (export "get" (func (result (list u8))))))
  (;fetch;) (import "tensorgate:handler/fetch@0.2.0" (instance $fetch
  (;fetch;)   (type $body (record (field "content-type" string) (field "data" (list u8))))
  (;fetch;)   (export "file" (type $file (eq $body)))
  (;fetch;)   (type $failures (enum "refused" "unavailable" "timeout" "too-large" "wrong-type"
  (;fetch;)     "not-found"))
  (;fetch;)   (export "failure" (type $failure (eq $failures)))
  (;fetch;)   (export "get" (func (param "urls" (list string))
  (;fetch;)     (result (list (result $file (error $failure))))))))
  (;lookup;) (import "tensorgate:handler/lookup@0.2.0" (instance $lookup
  (;lookup;)   (type $body (record (field "feature" string) (field "values" (list (option f64)))))
  (;lookup;)   (export "column" (type $column (eq $body)))
  (;lookup;)   (type $failures (enum "refused" "unavailable" "timeout" "too-large" "wrong-type"
  (;lookup;)     "not-found"))
  (;lookup;)   (export "failure" (type $failure (eq $failures)))
  (;lookup;)   (export "get" (func (param "lookup" string) (param "features" (list string))
  (;lookup;)     (param "keys" (list string)) (result (result (list $column) (error $failure)))))))
  (;images;) (import "tensorgate:kit/arrays@0.1.0" (instance $kit
  (;images;)   (type $types (enum "bool" "uint8" "uint16" "uint32" "uint64" "int8" "int16" "int32"
  (;images;)     "int64" "fp16" "bf16" "fp32" "fp64"))
  (;images;)   (export "datatype" (type (eq $types)))
  (;images;)   (type $kinds (enum "value" "datatype" "overflow" "division" "data" "room"))
  (;images;)   (export "kind" (type $kind (eq $kinds)))
  (;images;)   (type $fields (record (field "kind" $kind) (field "message" string)))
  (;images;)   (export "failure" (type (eq $fields)))
  (;images;)   (type $colours (enum "gray" "rgb" "rgba"))
  (;images;)   (export "channels" (type (eq $colours)))
  (;images;)   (export "array" (type $array (sub resource)))
  (;images;)   (export "[method]array.shape"
  (;images;)     (func (param "self" (borrow $array)) (result (list u32))))))
  (;images;) (alias export $kit "array" (type $kit-array))
  (;images;) (alias export $kit "channels" (type $kit-channels))
  (;images;) (alias export $kit "datatype" (type $kit-datatype))
  (;images;) (alias export $kit "failure" (type $kit-failure))
  (;images;) (import "tensorgate:kit/blocks@0.1.0" (instance $blocks
  (;images;)   (export "array" (type $array (eq $kit-array)))
  (;images;)   (export "channels" (type $channels (eq $kit-channels)))
  (;images;)   (export "datatype" (type $datatype (eq $kit-datatype)))
  (;images;)   (export "failure" (type $failure (eq $kit-failure)))
  (;images;)   (type $words (record
  (;images;)     (field "a" u64) (field "b" u64) (field "c" u64) (field "d" u64)
  (;images;)     (field "e" u64) (field "f" u64) (field "g" u64) (field "h" u64)
  (;images;)     (field "i" u64) (field "j" u64) (field "k" u64) (field "l" u64)
  (;images;)     (field "m" u64) (field "n" u64) (field "o" u64) (field "p" u64)))
  (;images;)   (export "block" (type $block (eq $words)))
  (;images;)   (type $fields (record (field "blocks" (list $block)) (field "bytes" u32)))
  (;images;)   (export "filled" (type $filled (eq $fields)))
  (;images;)   (export "to-bytes" (func (param "array" (borrow $array))
  (;images;)     (param "datatype" $datatype) (result (result $filled (error $failure)))))
  (;images;)   (export "decode-image" (func (param "head" (list u8)) (param "blocks" (list $block))
  (;images;)     (param "rest" (list u8)) (param "channels" $channels) (param "max-pixels" u32)
  (;images;)     (result (result (own $array) (error $failure)))))))
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $io-failure))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (export "error" (type $error (eq $io-failure)))
    (type $cases (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $cases)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (export "output-stream" (type $output-stream (eq $stream)))
    (export "get-stdout" (func (result (own $output-stream))))))
  (import "wasi:cli/stderr@0.2.0" (instance $stderr
    (export "output-stream" (type $output-stream (eq $stream)))
    (export "get-stderr" (func (result (own $output-stream))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:clocks/wall-clock@0.2.0" (instance $clock
    (type $fields (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $fields)))
    (export "now" (func (result $datetime)))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "tensorgate:runtime/library@0.1.0" (instance $library
    (export "read" (func (param "at" u64) (param "count" u32) (result (list u8))))
    (export "memory" (func (param "start" (list u8)) (param "end" (list u8))))))
  (import "{runtime}" (core module $runtime
    (import "image" "memory" (memory {pages}))
    {functions}
    (export "malloc" (func (param i32) (result i32)))
    (export "PyObject_CallNoArgs" (func (param i32) (result i32)))))

  ;; Stands for the image, which is not written as text.
  (core module $image (memory (export "memory") {pages}))
  (core instance $image (instantiate $image))
  (alias core export $image "memory" (core memory $memory))
  ;; Lowered imports need a realloc before the runtime exists, so theirs calls it through a table.
  (core module $late
    (type $realloc (func (param i32 i32 i32 i32) (result i32)))
    (table (export "table") 1 1 funcref)
    (global $into (export "into") (mut i32) (i32.const 0))
    (func (export "realloc") (type $realloc)
      (call_indirect (type $realloc)
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 0)))
    (func (export "realloc_into") (type $realloc) (global.get $into)))
  (core instance $late (instantiate $late))
  (alias core export $late "realloc" (core func $realloc))
  (alias core export $late "realloc_into" (core func $into))

  (core func $config-get (canon lower (func $config "get") (memory $memory) (realloc $realloc)))
  (core func $log-write (canon lower (func $log "write") (memory $memory)))
  (core func $context-get (canon lower (func $context "get") (memory $memory) (realloc $realloc)))
  (core func $carry-set (canon lower (func $carry "set") (memory $memory)))
  (core func $carry-get (canon lower (func $carry "get") (memory $memory) (realloc $realloc)))
  (;fetch;) (core func $fetch-get
  (;fetch;)   (canon lower (func $fetch "get") (memory $memory) (realloc $realloc)))
  (;lookup;) (core func $lookup-get
  (;lookup;)   (canon lower (func $lookup "get") (memory $memory) (realloc $realloc)))
  (;images;) (core func $decode-image
  (;images;)   (canon lower (func $blocks "decode-image") (memory $memory) (realloc $realloc)))
  (;images;) (core func $image-shape (canon lower
  (;images;)   (func $kit "[method]array.shape") (memory $memory) (realloc $realloc)))
  (;images;) (core func $image-bytes
  (;images;)   (canon lower (func $blocks "to-bytes") (memory $memory) (realloc $into)))
  (;images;) (core func $drop-image (canon resource.drop $kit-array))
  (core func $library-read (canon lower (func $library "read") (memory $memory) (realloc $into)))
  (core func $library-memory (canon lower (func $library "memory") (memory $memory)))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $exit (canon lower (func $exit "exit")))
  (core func $now (canon lower (func $clock "now") (memory $memory)))
  (core func $random
    (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $into)))

  {wasi}
  (core instance $wasi (instantiate $wasi
    (with "image" (instance $image))
    (with "late" (instance $late))
    (with "host" (instance
      (export "config_get" (func $config-get)) (export "log_write" (func $log-write))
      (export "context_get" (func $context-get))
      (export "carry_set" (func $carry-set)) (export "carry_get" (func $carry-get))
      (;fetch;) (export "fetch_get" (func $fetch-get))
      (;lookup;) (export "lookup_get" (func $lookup-get))
      (;images;) (export "decode_image" (func $decode-image))
      (;images;) (export "image_shape" (func $image-shape))
      (;images;) (export "image_bytes" (func $image-bytes))
      (;images;) (export "drop_image" (func $drop-image))
      (export "library_read" (func $library-read))
      (export "library_memory" (func $library-memory)) (export "random" (func $random))
      (export "get_stdout" (func $get-stdout)) (export "get_stderr" (func $get-stderr))
      (export "write" (func $write)) (export "exit" (func $exit)) (export "now" (func $now))))))
  (core instance $runtime (instantiate $runtime
    (with "image" (instance $image))
    (with "host" (instance $wasi))
    (with "wasi_snapshot_preview1" (instance $wasi))))

  ;; A call stores its flat arguments in the exchange block, and Python the result's address.
  (core module $entry
    (import "image" "memory" (memory {pages}))
    (import "late" "table" (table 1 1 funcref))
    (import "runtime" "malloc" (func $malloc (param i32) (result i32)))
    (import "runtime" "PyObject_CallNoArgs" (func $call (param i32) (result i32)))
    (elem (i32.const 0) func $realloc)
    (func $realloc (param i32 i32 i32) (param $bytes i32) (result i32)
      (local $block i32)
      (local.tee $block (call $malloc (local.get $bytes)))
      (if (i32.eqz) (then unreachable))
      (local.get $block))
    ;; Without a result, Python has let a MemoryError through.
    (func $run (result i32)
      (if (i32.eqz (call $call (i32.const {entry}))) (then unreachable))
      (i32.load (i32.const {exchange})))
    (func (export "preprocess") (param i32 i32 i32 i32 i32) (result i32)
      (i32.store (i32.const {exchange}) (local.get 0))
      (i32.store offset=4 (i32.const {exchange}) (local.get 1))
      (i32.store offset=8 (i32.const {exchange}) (local.get 2))
      (i32.store offset=12 (i32.const {exchange}) (local.get 3))
      (i32.store offset=16 (i32.const {exchange}) (local.get 4))
      (call $run))
    (func (export "postprocess") (param i32 i32) (result i32)
      (i32.store (i32.const {exchange}) (local.get 0))
      (i32.store offset=4 (i32.const {exchange}) (local.get 1))
      (call $run)))
  (core instance $entry (instantiate $entry
    (with "image" (instance $image))
    (with "late" (instance $late))
    (with "runtime" (instance $runtime))))

  (;preprocess;) (func (export "preprocess")
  (;preprocess;)   (param "input" $payload) (result (result (list $tensor) (error $error)))
  (;preprocess;)   (canon lift (core func $entry "preprocess")
  (;preprocess;)     (memory $memory) (realloc $realloc)))
  (;postprocess;) (func (export "postprocess")
  (;postprocess;)   (param "outputs" (list $tensor)) (result (result (list $tensor) (error $error)))
  (;postprocess;)   (canon lift (core func $entry "postprocess")
  (;postprocess;)     (memory $memory) (realloc $realloc)))
)
