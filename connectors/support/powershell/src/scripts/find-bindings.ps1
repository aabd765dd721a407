
function Invoke-Call {
    param($Arguments)
    Import-Iis
    $bindings = @(Get-HttpsBinding | ForEach-Object { $_.Remove('element'); $_ })
    # What http.sys really serves with.
    $mappings = @(Get-ChildItem -LiteralPath 'IIS:\SslBindings' | ForEach-Object {
        [ordered]@{
            name = [string]$_.PSChildName
            thumbprint = ([string](Get-Attribute $_ 'Thumbprint' '')).ToUpperInvariant()
            store = [string](Get-Attribute $_ 'Store' '')
        }
    })
    [ordered]@{ bindings = $bindings; mappings = $mappings }
}
