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
        "{% for m in x %}{{ messages[loop.index0 - 1].role }}{% endfor %}{{ messages[1:] }}",
        "{{ messages | tojson(indent=4) }}",
        "{{ raise_exception('Roles must alternate') }}{{ strftime_now('%d %b %Y') }}",
        "{% macro text(item) %}{{ item | trim }}{% endmacro %}{{ text(messages[0]) }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
        "{{ tools | map(attribute='name') | join(', ') }}{{ {'a': {'b': 1}} }}",
        "{% if (a and (b or c)) and x is not none and y in ['user', \"tool\"] %}{% endif %}",
        "{{ '\\u003cthink\\u003e' }}{{ a[0]['b'] ~ (1 + 2) % 2 }}",
        "{% for m in messages %}{{ loop.index0 % 2 == 0 and loop.previtem.role }}{% endfor %}",
        "{% for i in range(messages | length) %}{{ messages[i + 1].role }}{% endfor %}",
        "{% for k, v in tool.items() if k != 'return' %}{{ k ~ v }}{% endfor %}",
        "{% set ns = namespace(index=0) %}{% set ns.index = ns.index + 1 %}{{ x[ns.index] }}",
        "{% for k in categories %}{{ categories[k] }}{% endfor %}",
        "{{ (names[key] if key in names else '') | tojson }}",
        "{% macro f(s) %}{% set m = {'a': 'b'} %}{{ m[s.type] }}{{ f(s.items) }}{% endmacro %}\
         {% for tool in tools %}{{ f(tool) }}{% endfor %}",
        "{% macro f(x) %}{{ h(x) }}{% endmacro %}{% macro h(x) %}{{ x }}{% endmacro %}",
        "{% set x %}{{ bos_token }}{% endset %}{% filter trim %}{{ x }}{% endfilter %}",
        "{{ x if strftime_now is defined else y | default('', true) is string }}",
        "{% macro f(ns) %}{{ ns.a if ns is defined }}{% endmacro %}{{ f(namespace(a=1)) }}",
        "{% for m in x %}{% set outer = loop %}{{ outer.index0 }}{% endfor %}",
        "{% set first = namespace(role='system') %}{% set all = [first] + messages %}\
         {% for m in all[1:] %}{{ m.content.strip() }}{% endfor %}{{ all | length }}",
        "{% for name, value in (x | items) %}{{ value.type }}{% endfor %}",
        "{{ x | tojson(indent=2, ensure_ascii=false, separators=(',', ':'), sort_keys=true) }}",
        "{% set queue = namespace(ids=[]) %}{% for call in messages[0].tool_calls %}\
         {% set id = 'functions.' + call.name ~ ':' ~ loop.index0 %}\
         {% set _ = queue.ids.append(id) %}{% endfor %}\
         {% if queue.ids %}{% set id = queue.ids.pop(0) %}{{ id.strip() }}{% endif %}",
        "{% set users = [] %}{% for m in messages %}{% if users.append(m) %}{% endif %}{% endfor %}\
         {{ users[-1].content.strip() }}{{ users.pop().role }}{{ users | map(attribute='role') }}",
        "{% for k, v in tools[0].items() %}{{ k }}{% endfor %}{% for k in range(x | length) %}\
         {% set m = messages[k] %}{{ m.content }}{% endfor %}",
        "{% for k in x %}{% for k in range(3) %}{{ messages[k].role }}{% endfor %}{% endfor %}",
        "{% if 'format' in x %}{{ x['format'] + ' or ' }}{{ x.format == y.format }}{% endif %}",
        "{% macro schema(tools, namespace='functions') %}{{ 'namespace ' + namespace }}\
         {% endmacro %}{{ schema(tools) }}",
        "{% set text = '_' ~ x ~ '_' %}{% set text = text ~ '_' %}{{ text | trim }}",
        "{% macro f(x) %}{% set ns = namespace(a=caller()) %}{% set ns.a = ns.a + x.name %}\
         {{ ns.a }}{% call f(x.y) %}{{ caller() | trim }}{% endcall %}{% endmacro %}\
         {% for k, v in tools[0] | items %}{% call f(v) %}{{ k | title }}{% endcall %}{% endfor %}",
    ] {
        assert_eq!(verdict(template), Verdict::Safe, "{template}");
    }
}

fn assert_executable(templates: &[&str]) {
    for template in templates {
        assert_eq!(verdict(template), Verdict::Executable, "{template}");
    }
}

#[test]
fn a_way_to_python_is_executable() {
    assert_executable(&[
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
    ]);
    assert_eq!(verdict(&"{{ ".repeat(MAX_BYTES)), Verdict::Unknown);
    let nested = format!("{{{{ {} }}}}", "(".repeat(99));
    assert_eq!(verdict(&nested), Verdict::Executable);
}

#[test]
fn an_attribute_that_a_filter_reads_has_a_plain_name() {
    assert_executable(&[
        "{{ x | map(attribute='_' ~ '_class_' ~ '_') | list }}",
        "{{ x | sum(attribute='_' + '_class_' + '_') }}",
        "{{ x | sort(attribute='_' '_class_' '_') }}",
        "{{ x | sort(false, false, '_' ~ '_class_' ~ '_') }}",
        "{{ x | unique(attribute=('_', '_class_', '_') | join) }}",
        "{{ x | min(false, k) }}",
        "{{ x | max(attribute=k) }}",
        "{{ x | join('', 'a'.replace('a', 'b')) }}",
        "{{ x | groupby('a' ~ 'b') }}",
        "{{ x | selectattr('a' ~ 'b') }}",
        "{{ x | rejectattr('a' ~ 'b', 'equalto', 1) }}",
        "{{ x | selectattr('a', 'b' ~ 'c') }}",
        "{{ x | map('map', 'attr', 'y') }}",
        "{{ x | map('map', attribute='y') }}",
        "{{ x | map('at' ~ 'tr', 'y') }}",
        "{{ x | sum(**{'attribute': k}) }}",
        "{{ x | map(*['attr', k]) }}",
        "{{ x | map(attribute='gi_frame') }}",
        "{{ (x | map('upper')).gi_frame }}",
    ]);
}

#[test]
fn a_subscript_that_the_template_made_is_executable() {
    assert_executable(&[
        "{% set k = 'XclassX'.replace('X', '_' * 2) %}{{ x[k] }}",
        "{% set k = '_ _class_ _'.split() | join %}{{ x[k] }}",
        "{% set k = '_ _class_ _' | replace(' ', '') %}{{ x[k] }}",
        "{% set k = '%c%cclass%c%c' % (95, 95, 95, 95) %}{{ k }}",
        "{% set f = '%c' %}{{ f % 95 }}",
        "{{ messages[0].content % tools }}",
        "{% set k = ['_', 'x'] | join %}{{ x[k] }}",
        "{% set k = ('_class' | reverse) ~ '_' %}{{ x[k] }}",
        "{% set k %}_{% endset %}{{ x[k ~ 'a'] }}",
        "{% macro k() %}_{{ '_class_' }}_{% endmacro %}{{ x[k()] }}",
        "{% for k in ['a' ~ 'b'] %}{{ x[k] }}{% endfor %}",
        "{% set k = 'abc_' | int('a' ~ 'b') %}{{ x[k] }}",
        "{{ x[bos_token] }}{{ x[k] }}",
        "{% if false %}{% set i = 0 %}{% endif %}{{ x[i] }}",
        "{% if x %}{% set i = 0 %}{% elif y[i] %}{% endif %}",
        "{% for k in m %}{% set k = 'a' ~ 'b' %}{{ m[k] }}{% endfor %}",
        "{{ m[k] if k in m or true else '' }}",
        "{{ m[k].x if k in m else '' }}",
        "{{ x[messages[0].content].y }}",
        "{{ x[messages[0].content].strip() }}",
        "{{ x[messages[0].content] | map(attribute='y') }}",
        "{{ x[loop.index0] }}",
        "{% for a in b if x[loop.index0] %}{% endfor %}",
        "{% macro f(k) %}{{ x[k] }}{% endmacro %}{{ f(0) }}{{ f('a' ~ 'b') }}",
        "{% set ns = namespace(k=0) %}{{ x[ns.k] }}{% set ns.k = 'a' ~ 'b' %}",
        "{% set a = 0 %}{% set b = [a] + ['a' ~ 'b'] %}{{ x[b[1]] }}",
    ]);
}

#[test]
fn what_the_template_stored_is_never_called() {
    assert_executable(&[
        "{{ {'title': tokenizer.from_pretrained}.title('a/b') }}",
        "{{ {'strip': tokenize}.strip('a') }}",
        "{% set ns = namespace() %}{% set ns.startswith = ''.format %}{{ ns.startswith(x) }}",
        "{% set ns = namespace() %}{% set ns.get = x %}{{ ns.get('a') }}",
        "{% set ns = namespace(strip=x) %}{{ [ns][0].strip() }}",
        "{% set ns = namespace(strip=x) %}{{ {'a': ns}.a.strip() }}",
        "{% macro f(n) %}{{ n.strip() }}{% endmacro %}{{ f(namespace(strip=x)) }}",
        "{{ {'startswith': x.lower}.startswith() }}",
        "{{ dict(startswith=x.lower).startswith() }}",
        "{{ dict([['startswith', x.lower]]).startswith() }}",
        "{% set f = x.format %}{{ f(y) }}",
        "{{ [x.lower][0]() }}",
        "{% set f = range %}",
        "{% set ns = namespace(f=namespace) %}",
        "{{ namespace({'a': 1}) }}",
        "{% macro f() %}{% endmacro %}{% set g = f %}",
        "{{ x | first() () }}",
        "{{ (x | first).format(y) }}",
        "{{ x.encode }}",
        "{{ messages[0].content.format_map }}",
        "{{ messages[0].content['encode'] }}",
        "{{ messages[0].content['format']('a') }}",
        "{{ messages[0].content.format.strip() }}",
        "{% set f = x['format'] %}{{ f('a') }}",
        "{{ {'strip': x['format']}.strip('a') }}",
        "{% set ns = namespace(strip=x.format) %}{{ ns.strip('a') }}",
        "{% macro f(x) %}{{ x.strip() }}{% endmacro %}{{ f(y.format) }}",
        "{{ messages[x.format] }}",
        "{% set ns = namespace() %}{{ ns.format }}",
        "{{ varargs }}",
        "{% for x in y recursive %}{{ loop(x) }}{% endfor %}",
    ]);
}

#[test]
fn a_filter_gets_no_namespace() {
    let stored = "{% set ns = namespace(g=1, k='_' ~ '_class_' ~ '_', items=x.items) %}";
    for (tail, is_refused) in [
        (
            "{{ messages[([ns] | groupby('k') | first).grouper] }}",
            true,
        ),
        ("{{ ([ns] | groupby('g') | first).list | first }}", true),
        ("{{ messages[([ns] | map(attribute='k') | first)] }}", true),
        (
            "{% set o = [ns] | sum(attribute='k', start='') %}{{ messages[o] }}",
            true,
        ),
        ("{{ (ns | dictsort | first)[1].gi_frame }}", true),
        ("{{ ns | dictsort }}{{ ns | items }}{{ ns | list }}", true),
        ("{{ x | default(ns) }}", true),
        ("{{ {'a': ns} }}", true),
        ("{{ dict(a=ns) }}", true),
        ("{{ x.get('a', ns) }}", true),
        ("{{ ns is mapping }}{{ x is eq ns }}", true),
        ("{{ ns.g }}{{ ns['g'] }}{% set other = ns %}", false),
    ] {
        let template = format!("{stored}{tail}");
        let expected = if is_refused {
            Verdict::Executable
        } else {
            Verdict::Safe
        };
        assert_eq!(verdict(&template), expected, "{template}");
    }
    assert_executable(&[
        "{% set ns = namespace(a=1) %}{{ ns.gi_frame }}",
        "{% macro f(ns) %}{{ ns.gi_frame }}{% endmacro %}",
        "{% macro f(k) %}{{ x[k] }}{% endmacro %}",
        "{% set ns = namespace(a=1) %}{{ x[ns.other] }}",
    ]);
}

#[test]
fn a_loop_is_only_read() {
    assert_executable(&[
        "{% for m in [{'first': 'a' ~ 'b'}] %}{% for a, b in loop %}{{ x[a.first] }}\
         {% endfor %}{% endfor %}",
        "{% for m in x %}{% set a, b = loop %}{{ x[a.first] }}{% endfor %}",
        "{% for m in x %}{% set l = loop %}{{ l | list }}{% endfor %}",
        "{% for m in x %}{% for a in (loop) %}{{ a }}{% endfor %}{% endfor %}",
        "{% for m in x %}{{ [loop][0].first }}{% endfor %}",
        "{% for m in x %}{{ {'strip': loop}.strip() }}{% endfor %}",
    ]);
}

#[test]
fn a_text_from_names_or_pieces_is_computed() {
    assert_executable(&[
        "{{ messages[(dict(a_a_acalaaasasa_a_=1) | first)[1::2]] }}",
        "{% for k in dict(format=1) %}{{ messages[0].content[k] }}{% endfor %}",
        "{% for k in dict(xfxoxrxmxaxt=1) %}{{ messages[k[1::2]] }}{% endfor %}",
        "{{ messages[y[1::2]] }}",
        "{% set k = 'for' ~ 'mat' %}{% set c = 'a format b' %}{{ c[k] if k in c else '' }}",
        "{% set k = 'a' ~ 'b' %}{% set c = x.lower() %}{{ c[k] if k in c else '' }}",
        "{{ {'strip': (messages[0].keys() - []).union}.strip('ab') }}",
        "{{ (messages[0].keys() - x).copy_of }}",
        "{{ {'strip': x}.strip() }}",
        "{{ x.ag_frame }}{{ x['cr_frame'] }}",
        "{{ x | tojson(default=y) }}",
        "{{ x | map(attribute='a', other=y) }}",
    ]);
}

#[test]
fn a_long_template_is_read_a_bounded_number_of_times() {
    let mut chain = String::from("{% set ns = namespace() %}");
    for index in 0..99_u32 {
        let next = index.saturating_add(1);
        chain.push_str(&format!("{{% set ns.a{index} = ns.a{next} %}}"));
    }
    chain.push_str("{% set ns.a99 = 'a' ~ 'b' %}");
    assert_eq!(verdict(&chain), Verdict::Executable);
    let long = "{{ x.a }}".repeat(MAX_BYTES / 9);
    assert_eq!(verdict(&long), Verdict::Safe);
    let blocks = "{% if x %}".repeat(99);
    assert_eq!(verdict(&blocks), Verdict::Executable);
    let names: Vec<String> = (0..65_u32).map(|index| format!("a{index}")).collect();
    let many = format!("{{% macro f({}) %}}{{% endmacro %}}", names.join(","));
    assert_eq!(verdict(&many), Verdict::Executable);
}

#[test]
fn a_template_changes_no_list_but_its_own() {
    let made = "{% set l = [] %}{% set ns = namespace(l=[]) %}";
    for tail in [
        // What is appended is known wherever the list is.
        "{% set _ = l.append('_' ~ '_class_' ~ '_') %}{{ x[l[0]] }}",
        "{% set _ = l.append('_' ~ '_class_' ~ '_') %}{{ x[l.pop()] }}",
        "{% set o = l %}{% set _ = l.append('_' ~ 'a') %}{{ x[o[0]] }}",
        "{% set _ = l.append('_' ~ 'a') %}{% for k in l %}{{ x[k] }}{% endfor %}",
        "{{ x[l[0]] }}{% set _ = l.append('_' ~ 'a') %}",
        "{% set _ = l.append('_') %}{% set _ = l.append('_class_') %}{{ x[l | join] }}",
        "{% set d = {'a': l} %}{% set _ = l.append('_' ~ 'a') %}{{ x[d.a[0]] }}",
        "{% set _ = ns.l.append('_' ~ 'a') %}{{ x[ns.l[0]] }}",
        "{% set o = ns.l %}{% set _ = ns.l.append('_' ~ 'a') %}{{ x[o | first] }}",
        "{% macro f(n) %}{% set _ = n.l.append('_' ~ 'a') %}{% endmacro %}\
         {{ f(ns) }}{{ x[ns.l[0]] }}",
        "{% set ns.k = '_' %}{% set ns.k = ns.k ~ '_' %}{{ x[ns.k] }}{{ x['_' ~ ns.k] }}",
        // It is plain data.
        "{% set _ = l.append(x.lower) %}",
        "{% set _ = l.append(ns) %}",
        "{% set _ = l.append(x[messages[0].content]) %}",
        "{% set _ = l.append(x.format) %}",
        "{% for m in x %}{% set _ = l.append(loop) %}{% endfor %}",
        "{% set _ = l.append(a=1) %}{% set _ = l.append(1, 2) %}",
        "{% set _ = l.pop('a' ~ 'b') %}",
        // The list is one of the template.
        "{% set _ = messages.append('_' ~ 'a') %}",
        "{% set _ = messages[0].calls.append('a') %}",
        "{% set _ = x.append('a') %}{{ x.pop() }}",
        "{% set l = messages %}{% set _ = l.append('a') %}",
        "{% set o = l %}{% set _ = o.append('a') %}",
        "{% set l = [] if x else messages %}{% set _ = l.append('a') %}",
        "{% set l = [] + messages %}{% set _ = l.append('a') %}",
        "{% set l, o = messages %}{% set _ = l.append('a') %}",
        "{% set l %}a{% endset %}{{ l.pop() }}",
        "{% if x %}{% set m = [] %}{% endif %}{% set _ = m.append('a') %}",
        "{% for l in messages %}{% set _ = l.append('a') %}{% endfor %}",
        "{% macro f(l) %}{% set _ = l.append('a') %}{% endmacro %}{{ f(messages) }}",
        "{% set ns.l = messages %}{% set _ = ns.l.append('a') %}",
        "{% set o = namespace(l=messages) %}{% set _ = ns.l.append('a') %}",
        "{% set o = {'l': messages} %}{% set _ = o.l.append('a') %}",
        "{% set _ = [l][0].append('a') %}{{ (l).append('a') }}{{ [].append('a') }}",
        "{{ ns.pop('l') }}",
        // The method is only called.
        "{% set f = l.append %}",
        "{{ l.append }}",
        "{{ l.append.__self__ }}",
        "{{ l.append.format }}",
        "{{ dict(strip=l.append) }}",
        "{{ x | map(attribute='append') }}",
        "{% set _ = l.extend(x) %}",
        "{% set _ = l.insert(0, x) %}",
        "{{ l.clear() }}",
    ] {
        let template = format!("{made}{tail}");
        assert_eq!(verdict(&template), Verdict::Executable, "{template}");
    }
}

#[test]
fn a_name_is_known_by_the_tag_that_gives_it() {
    assert_executable(&[
        "{% for k in ['a' ~ 'b'] %}{% for k in range(3) %}{% endfor %}{{ x[k] }}{% endfor %}",
        "{% for k in range(3) %}{% for k in ['a' ~ 'b'] %}{{ x[k] }}{% endfor %}{% endfor %}",
        "{% for k in range(3) %}{% set k = 'a' ~ 'b' %}{{ x[k] }}{% endfor %}",
        "{% for k in range(3) %}{% if y %}{% set k %}a{% endset %}{% endif %}\
         {{ x[k] }}{% endfor %}",
        "{% for k in range(3) %}{% set k, l = y %}{{ x[k] }}{% endfor %}",
        "{% for k in range(3) %}{% macro f(k) %}{{ x[k] }}{% endmacro %}\
         {{ f('a' ~ 'b') }}{% endfor %}",
        "{% for k in range(3) %}{% else %}{{ x[k] }}{% endfor %}",
        "{% for k in range(3) %}{% endfor %}{{ x[k] }}",
        "{% set k = 'a' ~ 'b' %}{% for k in [k] %}{{ x[k] }}{% endfor %}",
        "{% for k in range(3) if x[j] %}{% endfor %}",
        "{% for a, b in [['a' ~ 'b', 1]] %}{{ x[b] }}{% endfor %}",
        "{% for m in messages %}{{ m() }}{% endfor %}",
        "{% for f in x %}{% endfor %}{% macro f() %}{% endmacro %}",
        "{{ dict(a=m) }}{% macro m() %}{% endmacro %}",
        "{{ caller() }}",
        "{% macro m() %}{{ caller }}{% endmacro %}",
        "{% macro m() %}{{ caller(1) }}{% endmacro %}",
        "{% macro m() %}{{ caller()() }}{% endmacro %}",
        "{% macro m() %}{{ x[caller()] }}{% endmacro %}",
        "{% macro m(a=caller()) %}{% endmacro %}",
        "{% macro m(caller) %}{% endmacro %}",
        "{% macro m() %}{% endmacro %}{{ m(caller=x) }}",
        "{% macro m() %}{% endmacro %}{% call(a) m() %}{% endcall %}",
        "{% macro m() %}{% endmacro %}{% call m().a %}{% endcall %}",
        "{% macro m() %}{% endmacro %}{% call m() %}{% endmacro %}",
        "{% macro m() %}{% endmacro %}{% call m() %}{{ ''.__class__ }}{% endcall %}",
        "{% macro m() %}{% endmacro %}\
         {% for k in x %}{% call m() %}{{ loop.index }}{% endcall %}{% endfor %}",
        "{% macro m(a) %}{{ x[a] }}{% endmacro %}{% call m('a' ~ 'b') %}{% endcall %}",
        "{% call dict(a=1) %}{% endcall %}",
        "{% call x() %}{% endcall %}",
        "{% macro m() %}{% endmacro %}{% macro m(a) %}{% endmacro %}",
        "{% macro f(range) %}{{ range }}{% endmacro %}{{ f(1) }}{{ range(3) }}",
        "{% macro f(range) %}{{ range(3) }}{% endmacro %}",
        "{% macro f(range) %}{% endmacro %}{{ range }}",
        "{% if x %}{% set range = 1 %}{% endif %}{{ range }}",
        "{% macro range() %}{% endmacro %}{{ range() }}",
        "{{ namespace(**x) }}",
    ]);
}

#[test]
fn a_filter_that_only_loaders_have_is_unknown() {
    for (template, expected) in [
        ("{{ x }}{{ x | from_json }}", Verdict::Unknown),
        (
            "{% set a = x | fromjson %}{% for k, v in a.items() %}{{ k }}{{ v }}{% endfor %}",
            Verdict::Unknown,
        ),
        ("{{ y[x | from_json] }}", Verdict::Executable),
        ("{{ x | from_json }}{{ cycler }}", Verdict::Executable),
        ("{{ x | from_json('a') }}", Verdict::Executable),
        ("{{ x | map('from_json') }}", Verdict::Executable),
        ("{{ x | from_yaml }}", Verdict::Executable),
    ] {
        assert_eq!(verdict(template), expected, "{template}");
    }
    let mut report = Report::new("x");
    check(b"{{ x }}{{ x | from_json }}", 100, &mut report);
    assert_eq!(report.findings.first().map(|found| found.offset), Some(107));
}
