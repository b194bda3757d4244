//! Envoy's functions. Only those that Envoy 1.38 has.

use core::ffi::c_void;

use super::{Buffer, Header};

unsafe extern "C" {
    pub(super) fn envoy_dynamic_module_callback_log(level: u32, message: Buffer);
    pub(super) fn envoy_dynamic_module_callback_register_function(
        name: Buffer,
        function: *mut c_void,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_get_function(
        name: Buffer,
        function: *mut *mut c_void,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_get_headers_size(
        stream: *mut c_void,
        map: u32,
    ) -> usize;
    pub(super) fn envoy_dynamic_module_callback_http_get_headers(
        stream: *mut c_void,
        map: u32,
        fields: *mut Header,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_get_header(
        stream: *mut c_void,
        map: u32,
        name: Buffer,
        value: *mut Buffer,
        index: usize,
        count: *mut usize,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_set_header(
        stream: *mut c_void,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_add_header(
        stream: *mut c_void,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_get_body_size(
        stream: *mut c_void,
        body: u32,
    ) -> usize;
    pub(super) fn envoy_dynamic_module_callback_http_get_body_chunks_size(
        stream: *mut c_void,
        body: u32,
    ) -> usize;
    pub(super) fn envoy_dynamic_module_callback_http_get_body_chunks(
        stream: *mut c_void,
        body: u32,
        chunks: *mut Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_append_body(
        stream: *mut c_void,
        body: u32,
        data: Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_drain_body(
        stream: *mut c_void,
        body: u32,
        size: usize,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_received_buffered_request_body(
        stream: *mut c_void,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_send_response(
        stream: *mut c_void,
        status: u32,
        fields: *mut Header,
        count: usize,
        body: Buffer,
        details: Buffer,
    );
    pub(super) fn envoy_dynamic_module_callback_http_filter_continue_decoding(stream: *mut c_void);
    pub(super) fn envoy_dynamic_module_callback_http_filter_reset_stream(
        stream: *mut c_void,
        reason: u32,
        details: Buffer,
    );
    pub(super) fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        stream: *mut c_void,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        stream: *mut c_void,
        name: Buffer,
        value: *mut Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_get_metadata_string(
        stream: *mut c_void,
        source: u32,
        namespace: Buffer,
        key: Buffer,
        value: *mut Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        stream: *mut c_void,
        attribute: u32,
        value: *mut Buffer,
    ) -> bool;
    pub(super) fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        configuration: *mut c_void,
        name: Buffer,
        labels: *mut Buffer,
        count: usize,
        id: *mut usize,
    ) -> u32;
    pub(super) fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
        configuration: *mut c_void,
        name: Buffer,
        labels: *mut Buffer,
        count: usize,
        id: *mut usize,
    ) -> u32;
    pub(super) fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(
        configuration: *mut c_void,
    ) -> *mut c_void;
    pub(super) fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
        scheduler: *mut c_void,
        event: u64,
    );
    pub(super) fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(
        scheduler: *mut c_void,
    );
    pub(super) fn envoy_dynamic_module_callback_http_filter_config_http_callout(
        configuration: *mut c_void,
        id: *mut u64,
        cluster: Buffer,
        fields: *mut Header,
        count: usize,
        body: Buffer,
        timeout_ms: u64,
    ) -> u32;
    pub(super) fn envoy_dynamic_module_callback_http_filter_set_gauge(
        stream: *mut c_void,
        id: usize,
        labels: *mut Buffer,
        count: usize,
        value: u64,
    ) -> u32;
    pub(super) fn envoy_dynamic_module_callback_http_filter_increment_counter(
        stream: *mut c_void,
        id: usize,
        labels: *mut Buffer,
        count: usize,
        by: u64,
    ) -> u32;
    pub(super) fn envoy_dynamic_module_callback_http_filter_scheduler_new(
        stream: *mut c_void,
    ) -> *mut c_void;
    pub(super) fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
        scheduler: *mut c_void,
        event: u64,
    );
    pub(super) fn envoy_dynamic_module_callback_http_filter_scheduler_delete(
        scheduler: *mut c_void,
    );
}
