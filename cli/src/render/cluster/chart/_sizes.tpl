{{- /* The sizes of the containers: threads and memory follow the processors that each asks for. */ -}}

{{- /* A quantity of Kubernetes as a number. */ -}}
{{- define "tensorgate.quantity" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- $units = merge $units (dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) -}}
{{- printf "%f" (mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[A-Za-z]*$" .))) -}}
{{- else -}}
{{- printf "%f" (float64 .) -}}
{{- end -}}
{{- end -}}

{{- /* The processors of a container's resources, rounded up. */ -}}
{{- define "tensorgate.cpu" -}}
{{- include "tensorgate.quantity" (default 0 .requests.cpu) | ceil | int64 -}}
{{- end -}}

{{- /* Envoy's workers. */ -}}
{{- define "tensorgate.workers" -}}
{{- max MIN_WORKERS (include "tensorgate.cpu" .Values.resources.envoy | int64) -}}
{{- end -}}

{{- /* The most concurrent calls of a handler. */ -}}
{{- define "tensorgate.handlerThreads" -}}
{{- max 1 (include "tensorgate.cpu" .Values.resources.host | int64) -}}
{{- end -}}

{{- /* The threads that handlers share. */ -}}
{{- define "tensorgate.sharedThreads" -}}
{{- $width := include "tensorgate.handlerThreads" . | int64 -}}
{{- if gt $width 1 -}}
{{- add (sub $width 1) (div (add $width ROUNDING) FRACTION) -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{- /* A container's resources with the memory that it needs. A limit below that is an error. */ -}}
{{- define "tensorgate.resources" -}}
{{- $needed := printf "%dMi" (int64 .neededMib) -}}
{{- $made := deepCopy .given -}}
{{- range $kind := list "requests" "limits" -}}
{{- $amounts := get $made $kind -}}
{{- if not $amounts.memory -}}
{{- $_ := set $amounts "memory" $needed -}}
{{- end -}}
{{- end -}}
{{- $limit := include "tensorgate.quantity" $made.limits.memory | float64 -}}
{{- if lt $limit (mulf .neededMib 1048576) -}}
{{- fail (printf "resources.%s.limits.memory: %v is less than the %s that the policy needs with these processors: leave it out, or ask for fewer processors" .container $made.limits.memory $needed) -}}
{{- end -}}
{{- toJson $made -}}
{{- end -}}
