#!/usr/bin/env python3
"""Copies a filter's module without the callbacks that it does not implement.

A proxy calls every callback that a module exports, and each call enters and leaves the VM. The SDK
exports all of them. The list below has those that the filters implement. If a filter needs another
one, add it there; the tests on a real Envoy fail without it.
"""

import sys

KEPT = {
    "memory", "_initialize", "proxy_abi_version_0_2_1", "proxy_on_memory_allocate",
    "proxy_on_vm_start", "proxy_on_configure", "proxy_on_context_create",
    "proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers",
    "proxy_on_response_body", "proxy_on_response_trailers",
    "proxy_on_log", "proxy_on_done", "proxy_on_delete",
    "proxy_on_tick", "proxy_on_http_call_response",
    "proxy_on_grpc_receive", "proxy_on_grpc_close",
}
EXPORTS = 7


def read(data, at):
    """Reads an unsigned LEB128 number. Returns it and its end."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def write(value):
    """Writes an unsigned LEB128 number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def trim(exports):
    """Returns the content of an export section with only the kept exports."""
    count, at = read(exports, 0)
    kept = []
    for _ in range(count):
        start = at
        size, at = read(exports, at)
        name = exports[at : at + size].decode()
        _, at = read(exports, at + size + 1)
        if name in KEPT:
            kept.append((name, exports[start:at]))
    missing = KEPT - {name for name, _ in kept}
    if missing:
        sys.exit(f"trim-filter: the module does not export {', '.join(sorted(missing))}")
    return write(len(kept)) + b"".join(entry for _, entry in kept)


def main(source, target):
    with open(source, "rb") as file:
        module = file.read()
    if module[:8] != b"\0asm\x01\0\0\0":
        sys.exit(f"trim-filter: {source} is no WebAssembly module")
    out, at = bytearray(module[:8]), 8
    while at < len(module):
        section = module[at]
        size, start = read(module, at + 1)
        content = module[start : start + size]
        if section == EXPORTS:
            content = trim(content)
        out += bytes([section]) + write(len(content)) + content
        at = start + size
    with open(target, "wb") as file:
        file.write(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
