
function Invoke-Call {
    param($Arguments)
    Assert-Store $Arguments.store
    $found = @(Get-ChildItem -LiteralPath "Cert:\LocalMachine\$($Arguments.store)" | Where-Object {
        $_.FriendlyName.Contains($Arguments.mark) -or $Arguments.thumbprints -contains $_.Thumbprint
    } | ForEach-Object {
        [ordered]@{
            thumbprint = $_.Thumbprint
            sha256 = Get-Sha256 $_.RawData
            friendly_name = $_.FriendlyName
            has_key = $_.HasPrivateKey
        }
    })
    [ordered]@{ certificates = $found }
}
