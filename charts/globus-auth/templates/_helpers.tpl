{{- define "globus-auth.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "globus-auth.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "globus-auth.selectorLabels" . }}
{{- end }}

{{- define "globus-auth.selectorLabels" -}}
app.kubernetes.io/name: globus-auth
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "globus-auth.operatorImage" -}}
{{ .Values.image.repository }}/globus-auth-operator:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "globus-auth.vaultImage" -}}
{{ .Values.image.repository }}/globus-auth-vault:{{ .Values.vault.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "globus-auth.sidecarImage" -}}
{{ .Values.image.repository }}/globus-auth-sidecar:{{ .Values.sidecar.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "globus-auth.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{- concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toYaml | nindent 6 }}
{{- end }}
