{{- define "skerry.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "skerry.labels" -}}
app.kubernetes.io/name: skerry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "skerry.selector" -}}
app.kubernetes.io/name: skerry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "skerry.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "skerry.tokenSecret" -}}
{{ .Values.broker.tokenSecret | default (printf "%s-broker-token" (include "skerry.name" .)) }}
{{- end -}}

{{/* Where devices reach the shards, and where the fleet does. */}}
{{- define "skerry.brokerUrls" -}}
{{- range $n := until (int .Values.broker.shards) -}}
{{- $host := $.Values.broker.host | replace "%d" (toString $n) -}}
mqtts://{{ $host }}:{{ add $.Values.broker.port (mul $n $.Values.broker.portStep) }}{{ if lt (add1 $n) (int $.Values.broker.shards) }} {{ end }}
{{- end -}}
{{- end -}}

{{- define "skerry.brokerInnerUrls" -}}
{{- $name := include "skerry.name" . -}}
{{- range $n := until (int .Values.broker.shards) -}}
mqtts://{{ $name }}-broker-{{ $n }}.{{ $name }}-brokers.{{ $.Release.Namespace }}.svc:8883{{ if lt (add1 $n) (int $.Values.broker.shards) }} {{ end }}
{{- end -}}
{{- end -}}

{{- define "skerry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "skerry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
