
function Invoke-Call {
    param($Arguments)
    $files = @($Arguments.paths | ForEach-Object {
        $content = $null
        if (Test-Path -LiteralPath $_ -PathType Leaf) { $content = [Convert]::ToBase64String([System.IO.File]::ReadAllBytes($_)) }
        [ordered]@{ path = $_; content = $content }
    })
    [ordered]@{ files = $files }
}
