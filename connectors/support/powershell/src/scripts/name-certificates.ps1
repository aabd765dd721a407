
function Invoke-Call {
    param($Arguments)
    Assert-Store $Arguments.store
    $changes = @($Arguments.changes | ForEach-Object {
        $certificate = Get-Certificate $Arguments.store $_.thumbprint
        if ($null -eq $certificate) { Stop-Call 'missing' "$($_.thumbprint) is not in the store $($Arguments.store)" }
        if ($certificate.FriendlyName -cne $_.from -and $certificate.FriendlyName -cne $_.to) {
            Stop-Call 'conflict' "$($_.thumbprint) has another friendly name by now: $($certificate.FriendlyName)"
        }
        @{ certificate = $certificate; to = $_.to }
    })
    foreach ($change in $changes) { $change.certificate.FriendlyName = $change.to }
    [ordered]@{ named = $changes.Count }
}
