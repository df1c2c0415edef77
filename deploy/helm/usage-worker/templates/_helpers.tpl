{{- define "usage-worker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters are what a CronJob's name may have. */}}
{{- define "usage-worker.fullname" -}}
{{- $name := include "usage-worker.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "usage-worker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "usage-worker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "usage-worker.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "usage-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "usage-worker.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "usage-worker.secretName" -}}
{{ .Values.existingSecret | default (include "usage-worker.fullname" .) }}
{{- end }}

{{- define "usage-worker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "usage-worker.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* A container; takes a dict of root, name, args and databaseUrlKey. What runs for long adds its probes. */}}
{{- define "usage-worker.container" -}}
{{- $v := .root.Values -}}
name: {{ .name }}
image: {{ include "usage-worker.image" .root | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
args: {{ toJson .args }}
env:
  - name: WORKER_CONFIG
    value: /etc/usage-worker/config.toml
  - name: WORKER_DATA_DIR
    value: /var/lib/usage-worker
  {{- with $v.upstream.url }}
  - name: WORKER_UPSTREAM_NAME
    value: {{ $v.upstream.name | quote }}
  - name: WORKER_UPSTREAM_URL
    value: {{ . | quote }}
  - name: WORKER_UPSTREAM_MODE
    value: {{ $v.upstream.mode | quote }}
  {{- end }}
  - name: WORKER_TIMEZONE
    value: {{ $v.timezone | quote }}
  - name: WORKER__HTTP__HOST
    value: 0.0.0.0
  - name: WORKER_HTTP_PORT
    value: {{ $v.http.port | quote }}
  - name: WORKER_DATABASE_URL_FILE
    value: /run/secrets/usage-worker/{{ .databaseUrlKey | default $v.secretKeys.databaseUrl }}
  - name: WORKER_UPSTREAM_KEY_FILE
    value: /run/secrets/usage-worker/{{ $v.secretKeys.upstreamKey }}
  {{- if or $v.secretKeys.pepper (and (not $v.existingSecret) $v.secret.pepper) }}
  - name: WORKER_PEPPER_FILE
    value: /run/secrets/usage-worker/{{ $v.secretKeys.pepper | default "pepper" }}
  {{- end }}
  {{- with $v.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml $v.resources | nindent 2 }}
volumeMounts:
  - name: journal
    mountPath: /var/lib/usage-worker
  - name: config
    mountPath: /etc/usage-worker
    readOnly: true
  - name: secrets
    mountPath: /run/secrets/usage-worker
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- with $v.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What every pod has besides its containers. */}}
{{- define "usage-worker.pod" -}}
serviceAccountName: {{ include "usage-worker.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: journal
    {{- if .Values.persistence.enabled }}
    persistentVolumeClaim:
      claimName: {{ .Values.persistence.existingClaim | default (printf "%s-journal" (include "usage-worker.fullname" .)) }}
    {{- else }}
    emptyDir: {}
    {{- end }}
  - name: config
    configMap:
      name: {{ include "usage-worker.fullname" . }}
  - name: secrets
    secret:
      secretName: {{ include "usage-worker.secretName" . }}
      defaultMode: 0440
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* A changed configuration or secret of the chart's own restarts the worker. */}}
{{- define "usage-worker.podAnnotations" -}}
checksum/config: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
checksum/secret: {{ include (print .Template.BasePath "/secret.yaml") . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}
