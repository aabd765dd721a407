
function Import-Iis {
    if ($null -eq (Get-Module -ListAvailable -Name WebAdministration)) {
        Stop-Call 'unsupported' 'the module WebAdministration is missing (feature Web-Scripting-Tools)'
    }
    Import-Module WebAdministration
}

# Attributes that an old IIS does not have are empty.
function Get-Attribute {
    param($Binding, [string]$Name, $Default)
    $attribute = $Binding.PSObject.Properties[$Name]
    if ($null -eq $attribute -or $null -eq $attribute.Value) { $Default } else { $attribute.Value }
}

# Every https binding of every site, with what IIS has for it.
function Get-HttpsBinding {
    Get-WebBinding -Protocol https | ForEach-Object {
        $site = [regex]::Match($_.ItemXPath, "/site\[@name='(.*?)' and @id=").Groups[1].Value
        [ordered]@{
            site = [System.Net.WebUtility]::HtmlDecode($site)
            information = [string]$_.bindingInformation
            flags = [int](Get-Attribute $_ 'sslFlags' 0)
            thumbprint = ([string](Get-Attribute $_ 'certificateHash' '')).ToUpperInvariant()
            store = [string](Get-Attribute $_ 'certificateStoreName' '')
            element = $_
        }
    }
}
