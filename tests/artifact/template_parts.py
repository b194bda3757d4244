"""Makes ordinary chat templates from parts."""

import re

from template_grammar import quote

#: Parts of ordinary templates. `@R` is a role, `@T` a text, `@N` a number and `@A` an attribute.
PARTS = [
    "{% for message in messages %}@BODY{% endfor %}",
    "{%- for message in messages[1:] -%}@BODY{%- endfor -%}",
    "{% for message in messages if message.role != @R %}@BODY{% endfor %}",
    "{% for message in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}"
    "{{ index }}{% endfor %}",
    "{% if messages[0]['role'] == @R %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
    "{{ rest | length }}",
    "{% for message in messages %}{% if (message['role'] == @R) != (loop.index0 % @N == 0) %}"
    "{{ @T }}{% endif %}{% endfor %}",
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{{ tool.function.name }}"
    "{% for key, value in tool.function.parameters.properties.items() %}{{ key + @T }}"
    "{{ value.type | default(@T) | upper }}{% endfor %}{% endfor %}{% endif %}",
    "{% set ns = namespace(found=false, index=0) %}{% for m in messages %}{% if m.role == @R %}"
    "{% set ns.found = true %}{% set ns.index = ns.index + 1 %}{% endif %}{% endfor %}"
    "{{ ns.found }}{{ ns.index % @N }}",
    "{% macro show(m, n=@N) %}{{ m.role | capitalize }}{{ n }}{% if m.content is string %}"
    "{{ m.content | trim }}{% endif %}{% endmacro %}{{ show(messages[0]) }}"
    "{% for m in messages %}{{ show(m, n=loop.index) }}{% endfor %}",
    "{% macro kind(spec) %}{% set names = {'string': 'str', 'integer': 'int'} %}"
    "{% if names[spec.type] is defined %}{{ names[spec.type] }}{% else %}{{ @T }}{% endif %}"
    "{% endmacro %}{% for tool in tools or [] %}"
    "{{ kind(tool.function.parameters.properties.city) }}{% endfor %}",
    "{% for i in range(messages | length) %}{{ messages[i].role }}"
    "{% if i + 1 < messages | length %}"
    "{{ messages[i + 1].role }}{% endif %}{% endfor %}",
    "{% for tool in tools or [] %}{% for key in tool.function %}{{ key }}={{ tool.function[key] }}"
    "{% endfor %}{% endfor %}",
    "{{ messages | selectattr('role', 'equalto', @R) | list | length }}",
    "{{ messages | map(attribute=@A) | list | length }}"
    "{{ messages | rejectattr(@A, 'none') | list }}",
    "{{ strftime_now('%d %b %Y') if strftime_now is defined else @T }}",
    "{{ (bos_token or '') + @T }}{{ eos_token ~ @T }}",
    "{% if add_generation_prompt %}{{ @T }}{% elif enable_thinking is defined %}{{ @T }}"
    "{% endif %}",
    "{% set parts = @T.split(' ') %}{{ parts | join(', ') }}{{ parts | first }}{{ parts[-1] }}",
    "{% set text %}{{ bos_token }}{% for m in messages %}{{ m.role }}{% endfor %}{% endset %}"
    "{{ text | trim }}",
    "{% set known = [@R, @R] %}{% for m in messages %}{% if m.role not in known %}{{ @T }}"
    "{% continue %}"
    "{% endif %}{{ m.role | upper }}{% endfor %}",
    "{{ 'x' if not tools else (tools | tojson(indent=4)) }}{{ @N * 2 + @N }}{{ @N // 2 }}{{ -@N }}",
    "{% filter trim %}{{ @T }}{% endfilter %}{% generation %}{{ @T }}{% endgeneration %}",
    "{% set queue = namespace(ids=[]) %}{% for m in messages %}{% set id = @T ~ loop.index0 %}"
    "{% set _ = queue.ids.append(id) %}{% endfor %}{% if queue.ids %}"
    "{{ queue.ids.pop(0).strip() }}{% endif %}{{ queue.ids | join(@T) }}",
    "{% set chosen = [] %}{% for m in messages %}{% if m.role == @R %}"
    "{% set _ = chosen.append(m) %}{% endif %}{% endfor %}"
    "{% for m in chosen %}{{ m.role }}{% endfor %}{% if chosen %}{{ chosen[-1].role }}{% endif %}",
    "{% for k, v in messages[0].items() %}{{ k }}{% endfor %}"
    "{% for k in range(messages | length) %}{{ messages[k].role }}{% endfor %}",
    "{# a comment with {{ braces }} #}{{ @T | replace('a', 'b') | length }}",
    "{{ documents | map(attribute='title') | join(@T) }}{{ (documents | first).text }}",
]
BODIES = [
    "{{ '<|' + message['role'] + '|>' + @T }}", "{{ message.role }}{{ @T }}",
    "{% if message.content is string %}{{ message.content.strip() }}{% else %}"
    "{% for part in message.content %}{{ part['text'] | trim }}{% endfor %}{% endif %}",
    "{% if message['role'] == @R and not loop.last %}{{ loop.index }}{% endif %}",
    "{% if message.content is string and '</think>' in message.content %}"
    "{{ message.content.split('</think>')[-1].lstrip('\\n') }}{% endif %}",
    "{% if message.tool_calls is defined %}{% for call in message.tool_calls %}"
    "{{ call.function.name }}{{ call.function.arguments | tojson }}"
    "{% for k, v in call.function.arguments | items %}{{ k }}={{ v }}{% endfor %}"
    "{% endfor %}{% endif %}",
    "{% if loop.first or messages[loop.index0 - 1].role != @R %}{{ @T }}{% endif %}",
    "{% if not loop.last and messages[loop.index0 + 1]['role'] == @R %}{{ @T }}{% endif %}",
    "{{ loop.previtem.role if loop.previtem is defined and not loop.first else @T }}",
    "{% if message.get('name') %}{{ message.get('name', @T) }}{% endif %}",
    "{% for key, value in message.items() %}{{ key }}{% endfor %}",
]
TEXTS = (
    "<|im_start|>", "You are helpful.", "\n\n", "[INST] ", "<tool_call>", "a_b", "##", "<|eot_id|>",
    "{\"name\": \"", "content",
)


def benign(pick):
    """An ordinary template."""
    text = "".join(pick.choice(PARTS) for _ in range(pick.randrange(1, 6)))
    # Two macros of one name are no ordinary template.
    for name in ("show", "kind"):
        if text.count(f"macro {name}(") > 1:
            return benign(pick)
    while "@BODY" in text:
        text = text.replace("@BODY", "".join(pick.sample(BODIES, pick.randrange(1, 4))), 1)

    def fill(found):
        return {
            "@R": lambda: quote(pick, pick.choice(("user", "system", "assistant"))),
            "@T": lambda: quote(pick, pick.choice(TEXTS)),
            "@N": lambda: str(pick.randrange(2, 9)),
            "@A": lambda: quote(pick, "role"),
        }[found[0]]()

    return re.sub("@[RTNA]", fill, text)
