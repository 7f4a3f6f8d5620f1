{{- define "sipobs.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sipobs.selector" -}}
app.kubernetes.io/name: sipobs
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sipobs.labels" -}}
{{ include "sipobs.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sipobs.config" -}}
{{- with .Values.otlp }}
{{- if .endpoint -}}
[otlp]
endpoint = {{ .endpoint | quote }}
protocol = {{ .protocol | quote }}
{{- if ne .calls "transferred" }}
calls = {{ .calls | quote }}
{{- end }}

{{ end }}
{{- end -}}
[state]
path = "/var/lib/sipobs/state.json"
{{- if not .Values.state.hostPath }}
# It goes with the pod, and nobody would find what is left there.
handover = false
{{- end }}
{{- with .Values.recorder }}
{{- if .enabled }}

[recorder]
folder = "/var/lib/sipobs-evidence"
memory = "{{ int .memoryMiB }}MiB"
redact = {{ .redact | quote }}
{{- end }}
{{- end }}
{{- with .Values.page }}
{{- if .enabled }}

[page]
enabled = true
{{- with .traceUrl }}
trace_url = {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.config }}

{{ . | trim }}
{{- end }}
{{- end -}}

{{- define "sipobs.endpointAccess" -}}
{{- with .Values.metrics.token }}
{{- if .secretName }}
authorization:
  type: Bearer
  credentials:
    name: {{ .secretName }}
    key: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.metrics.tls }}
{{- if .secretName }}
scheme: https
tlsConfig:
  {{- with .serverName }}
  serverName: {{ . }}
  {{- end }}
  {{- if .clientSecretName }}
  ca:
    secret:
      name: {{ .clientSecretName }}
      key: ca.crt
  {{- if .clientAuthorityKey }}
  cert:
    secret:
      name: {{ .clientSecretName }}
      key: tls.crt
  keySecret:
    name: {{ .clientSecretName }}
    key: tls.key
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
