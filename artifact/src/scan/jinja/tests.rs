//! Tests of chat templates: those of published models, and ways to Python's objects.

use super::*;

fn verdict(template: &str) -> Verdict {
    let mut report = Report::new("x");
    check(template.as_bytes(), 0, &mut report);
    report.verdict
}

#[test]
fn templates_of_chats_are_safe() {
    for template in [
        "",
        "plain { text } with % signs",
        "{# a comment #}{{ bos_token }}",
        "{% for message in messages %}{{ '<|user|>' + message['role'] + '\\n' }}{% endfor %}",
        "{%- if not add_generation_prompt is defined -%}{% set x = false %}{%- endif -%}",
        "{% set ns = namespace(found=false) %}{% set ns.found = true %}{{ ns.found }}",
        "{{ message.content.split('</think>')[-1].lstrip('\\n') }}",
        "{{ messages[loop.index0 - 1].role }}{{ messages[1:] | tojson(indent=4) }}",
        "{{ raise_exception('Roles must alternate') }}{{ strftime_now('%d %b %Y') }}",
        "{% macro text(item) %}{{ item | trim }}{% endmacro %}{{ text(messages[i]) }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
        "{{ tools | map(attribute='name') | join(', ') }}{{ {'a': {'b': 1}} }}",
        "{% if (a and (b or c)) and x is not none and y in ['user', \"tool\"] %}{% endif %}",
        "{{ '\\u003cthink\\u003e' }}{{ a[0]['b'] ~ (1 + 2) % 2 }}",
    ] {
        assert_eq!(verdict(template), Verdict::Safe, "{template}");
    }
}

#[test]
fn a_way_to_python_is_executable() {
    for template in [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ x['_private'] }}",
        "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
        "{{ x['\\137_class'] }}",
        "{{ x['_' ~ '_class_' ~ '_'] }}",
        "{% set k = '_' + '_class_' + '_' %}{{ x[k] }}",
        "{{ x | attr('y') }}",
        "{{ x | map('attr', 'y') }}",
        "{{ x | map(k) }}",
        "{{ x | map(attribute=k) }}",
        "{{ x | selectattr(k) }}",
        "{{ x | map(attribute='a.__class__') }}",
        "{{ cycler }}",
        "{{ lipsum.x }}",
        "{{ self.x }}",
        "{{ f() }}",
        "{{ x.mro() }}",
        "{{ x.format(y) }}",
        "{{ '%c' % 95 }}",
        "{{ (x)(1) }}",
        "{{ x['y'](1) }}",
        "{{ x is shell }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% macro f() %}{% endmacro %}{% set f = x %}{{ f() }}",
        "{% set f = x %}{% macro f() %}{% endmacro %}{{ f() }}",
        "{% set range = x %}{{ range() }}",
        "{% for namespace in x %}{{ namespace() }}{% endfor %}",
        "{% filter attr('x') %}{% endfilter %}",
        "{{ x.\u{ff3f}_class__ }}",
        "{{ x",
        "{{ 'x }}",
        "{# x",
        "{% raw %}{{ x }}{% endraw %}",
        "{{ ) }}",
    ] {
        assert_eq!(verdict(template), Verdict::Executable, "{template}");
    }
    assert_eq!(verdict(&"{{ ".repeat(MAX_BYTES)), Verdict::Unknown);
    let nested = format!("{{{{ {} }}}}", "(".repeat(99));
    assert_eq!(verdict(&nested), Verdict::Executable);
}
