{{- define "sipobs.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sipobs.selector" -}}
app.kubernetes.io/name: sipobs
{{- if ne (include "sipobs.name" .) "sipobs" }}
app.kubernetes.io/instance: {{ include "sipobs.name" . }}
{{- end }}
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
{{- with .Values.config }}

{{ . | trim }}
{{- end }}
{{- end -}}
