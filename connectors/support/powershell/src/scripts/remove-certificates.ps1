
# What is known of who uses certificates: every mapping of http.sys (IIS, WinRM and others), and Remote Desktop.
function Get-Use {
    $netsh = @(& "$env:SystemRoot\System32\netsh.exe" http show sslcert) -join "`n"
    $desktop = ''
    try {
        $general = Get-CimInstance -Namespace 'root/cimv2/TerminalServices' -ClassName 'Win32_TSGeneralSetting'
        $desktop = @($general | ForEach-Object { $_.SSLCertificateSHA1Hash }) -join ' '
    } catch {
        # A Windows without that role.
        $desktop = ''
    }
    "$netsh $desktop"
}

function Invoke-Call {
    param($Arguments)
    Assert-Store $Arguments.store
    $use = Get-Use
    $removed = @()
    $used = @()
    foreach ($thumbprint in @($Arguments.thumbprints)) {
        $certificate = Get-Certificate $Arguments.store $thumbprint
        if ($null -eq $certificate -or -not $certificate.FriendlyName.Contains($Arguments.mark)) { continue }
        if ($use -match $thumbprint) {
            $used += $thumbprint
            continue
        }
        Remove-Item -LiteralPath "Cert:\LocalMachine\$($Arguments.store)\$thumbprint" -DeleteKey
        $removed += $thumbprint
    }
    [ordered]@{ removed = $removed; used = $used }
}
