
function Invoke-Call {
    param($Arguments)
    Import-Iis
    # All are looked at before the first one is changed.
    $all = @(Get-HttpsBinding)
    $changes = @($Arguments.changes | ForEach-Object {
        $wanted = $_
        $found = @($all | Where-Object { $_.site -ceq $wanted.site -and $_.information -eq $wanted.information })
        $shown = "$($wanted.information) of the site $($wanted.site)"
        if ($found.Count -eq 0) { Stop-Call 'missing' "there is no https binding $shown" }
        if ($found.Count -gt 1) { Stop-Call 'missing' "there is more than one https binding $shown" }
        $from = $wanted.from
        if ($null -ne $from -and $found[0].thumbprint -ne $from -and $found[0].thumbprint -ne $wanted.to) {
            Stop-Call 'conflict' "the binding $shown has the certificate $($found[0].thumbprint) by now"
        }
        if ($wanted.to -ne '' -and $null -eq (Get-Certificate $wanted.store $wanted.to)) {
            Stop-Call 'missing' "$($wanted.to) is not in the store $($wanted.store)"
        }
        @{ shown = $shown; found = $found[0]; wanted = $wanted }
    })
    foreach ($change in $changes) {
        # In place: the binding, its flags and everything else about it stay.
        if ($change.wanted.to -eq '') {
            if ($change.found.thumbprint -ne '') { $change.found.element.RemoveSslCertificate() }
        } else {
            $change.found.element.AddSslCertificate($change.wanted.to, $change.wanted.store)
        }
    }
    $all = @(Get-HttpsBinding)
    foreach ($change in $changes) {
        $now = @($all | Where-Object { $_.site -ceq $change.wanted.site -and $_.information -eq $change.wanted.information })
        if ($now.Count -ne 1 -or $now[0].thumbprint -ne $change.wanted.to -or $now[0].flags -ne $change.found.flags) {
            Stop-Call 'not_taken' "IIS did not take the change of the binding $($change.shown)"
        }
    }
    [ordered]@{ changed = $changes.Count }
}
