//! The fused filter as it is shipped, with a way for a request to make the VM trap. The trap comes
//! after the filter has done its work, while it holds its permits. Only tests load it. It decides
//! nothing.

#[cfg(target_family = "wasm")]
mod entry {
    #![allow(missing_docs, reason = "the macro's own item")]

    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::{Action, ContextType};
    use tensorgate_filter_wasm as sdk;

    /// The header field of a request at whose body's end the filter traps.
    const TRAP: &str = "x-test-trap";

    proxy_wasm::main! {{
        sdk::log_panics();
        proxy_wasm::set_root_context(|context| Box::new(Root(sdk::root(context))));
    }}

    struct Root(Box<dyn RootContext>);

    impl Context for Root {}

    impl RootContext for Root {
        fn on_configure(&mut self, bytes: usize) -> bool {
            self.0.on_configure(bytes)
        }

        fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
            let inner = self.0.create_http_context(id)?;
            Some(Box::new(Stream {
                inner,
                traps: false,
            }))
        }

        fn get_type(&self) -> Option<ContextType> {
            self.0.get_type()
        }
    }

    struct Stream {
        inner: Box<dyn HttpContext>,
        traps: bool,
    }

    impl Context for Stream {
        fn on_done(&mut self) -> bool {
            self.inner.on_done()
        }
    }

    impl HttpContext for Stream {
        fn on_http_request_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
            let fields = self.get_http_request_headers();
            self.traps = fields.iter().any(|(name, _)| name == TRAP);
            self.inner.on_http_request_headers(count, end_of_stream)
        }

        fn on_http_request_body(&mut self, bytes: usize, end_of_stream: bool) -> Action {
            let action = self.inner.on_http_request_body(bytes, end_of_stream);
            assert!(
                !(self.traps && end_of_stream),
                "a fault that a test asked for"
            );
            action
        }

        fn on_http_request_trailers(&mut self, count: usize) -> Action {
            self.inner.on_http_request_trailers(count)
        }

        fn on_log(&mut self) {
            self.inner.on_log();
        }
    }
}
