{{- define "vad-monitor.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{ $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "vad-monitor.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vad-monitor.labels" -}}
{{ include "vad-monitor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Beyond the pod /metrics is told with a token of the Secret, or not at all. */ -}}
{{- define "vad-monitor.metrics" -}}
{{- if .Values.existingSecret -}}
token_file: /run/secrets/vad-monitor/metrics_token
{{- else -}}
{host: 127.0.0.1, port: 9109}
{{- end -}}
{{- end }}

{{- /* The plant.yaml of all shards; each reads its own number from the environment. */ -}}
{{- define "vad-monitor.plant" -}}
{{- $plant := deepCopy .Values.plant -}}
{{- $folder := "/var/lib/vad-monitor" -}}
{{- $_ := set $plant "site" .Values.site -}}
{{- if gt (int .Values.shards) 1 -}}
{{- $_ := set $plant "site" (printf "%s-${SHARD}" .Values.site) -}}
{{- end -}}
{{- $_ := set $plant "http" (dict "host" "0.0.0.0" "port" 9108 "metrics" (include "vad-monitor.metrics" . | fromYaml)) -}}
{{- $_ := set $plant "state_folder" (printf "%s/state" $folder) -}}
{{- $_ := set $plant "evidence" (merge (dict "folder" (printf "%s/evidence" $folder)) (default dict $plant.evidence)) -}}
{{- if kindIs "map" $plant.mqtt -}}
{{- $id := printf "%s-${SHARD}" (default (include "vad-monitor.name" .) $plant.mqtt.client_id) -}}
{{- $_ := set $plant "mqtt" (merge (dict "client_id" $id) $plant.mqtt) -}}
{{- end -}}
{{ toYaml $plant }}
{{- end }}
